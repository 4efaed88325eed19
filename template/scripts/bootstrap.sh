#!/bin/sh
# Runs bootstrap.py with a python3 that is new enough. PYTHON overrides the interpreter.
for python in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
        exec "$python" "$(dirname "$0")/bootstrap.py" "$@"
    fi
done
found=$("${PYTHON:-python3}" --version 2>&1) || found="no ${PYTHON:-python3} that runs"
echo "Python 3.11 or newer is needed and there is $found: install one, or name it: make PYTHON=/path/to/python3.11 ..." >&2
exit 1
