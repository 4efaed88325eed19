#!/bin/sh
# Deploys an environment, and waits until the new version serves: `make deploy-<environment>`, after scripts/migrate.sh.
set -eu
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/environment.sh"
purpose='Deploys an environment, and waits until the new version serves (IMAGE=<image> for another image than its own).'
read_arguments "$@"

# Stops the process that an earlier deployment has started, if it still runs.
stop_local() {
    [ -f "$process" ] || return 0
    pid=$(cat "$process")
    if ps -p "$pid" -o args= 2>/dev/null | grep -q -- "-m $package serve"; then
        run kill "$pid"
        while [ -z "$dry_run" ] && runs "$pid"; do sleep 0.2; done
    fi
    [ -n "$dry_run" ] || rm -f "$process"
}

start_local() {
    if [ -z "$dry_run" ] && ask /healthz >/dev/null; then
        fail "another process serves on $url: stop it, or choose another PORT."
    fi
    say "+ .venv/bin/python -m $package serve >>$log &"
    [ -z "$dry_run" ] || exit 0
    nohup .venv/bin/python -m "$package" serve >>"$log" 2>&1 </dev/null &
    pid=$!
    say "$pid" >"$process"
    ends=$(($(date +%s) + ${DEPLOY_TIMEOUT:-300}))
    until answer=$(ask /readyz); do
        if ! runs "$pid"; then
            rm -f "$process"
            tail -n 5 "$log" >&2
            fail "$service did not start: see the end of $log above."
        fi
        [ "$(date +%s)" -lt "$ends" ] || fail "$service is not ready (process $pid, log $log): $answer"
        sleep 0.2
    done
    say "$service serves on $url (process $pid, log $log). To stop it: kill $pid"
}

if [ "$environment" = local ]; then
    local_settings
    say "Deploys $service on this machine: $url, $database"
    mkdir -p var
    run make --no-print-directory .venv
    stop_local
    start_local
    exit
fi

purpose="Deploys $service in $environment, and waits until the new version serves."
render
# shellcheck disable=SC2046 # words
check_cluster "$service" $(keys_of_secret "$service")
run kube apply --filename "$manifests" || fail "the manifests were not applied: see the error above."
if ! run kube rollout status "deployment/$service" "--timeout=${DEPLOY_TIMEOUT:-300}s"; then
    show_pods "app.kubernetes.io/name=$service,app.kubernetes.io/component=service"
    fail "the new version does not serve: see above. The old one goes on; to end the attempt: kubectl --namespace $namespace" \
        "rollout undo deployment/$service"
fi
[ -n "$dry_run" ] || say "$service serves in $environment. Next: scripts/health-check.sh $environment"
