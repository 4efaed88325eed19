# shellcheck shell=sh
# What migrate.sh, deploy.sh and health-check.sh have in common: they read it. An environment is `local`, which is this
# machine without a container, or a folder of deploy/environments/, which is a namespace of a Kubernetes cluster.
# shellcheck disable=SC2034,SC2154 # variables that those scripts set or use

cd "$(dirname "$0")/.." || exit 1
script=$(basename "$0") environment='' dry_run=''
kubectl=${KUBECTL:-kubectl}

say() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }
fail() {
    warn "$script: $*"
    exit 1
}

# Sets environment and dry_run, for one environment and --dry-run.
read_arguments() {
    for word in "$@"; do
        case $word in
        --dry-run) dry_run=yes ;;
        -h | --help) usage && exit ;;
        -*) usage >&2 && exit 2 ;;
        *)
            [ -z "$environment" ] || { usage >&2 && exit 2; }
            environment=$word
            ;;
        esac
    done
    [ -n "$environment" ] || { usage >&2 && exit 2; }
    [ "$environment" = local ] || [ -f "deploy/environments/$environment/kustomization.yaml" ] ||
        fail "there is no environment $environment: there is $(environments)."
}

usage() {
    say "usage: $script ENVIRONMENT [--dry-run]    $purpose"
    say "environments: $(environments)"
}

environments() {
    printf local
    for folder in deploy/environments/*/; do
        [ ! -f "$folder/kustomization.yaml" ] || printf ', %s' "$(basename "$folder")"
    done
}

for folder in src/*/; do
    package=$(basename "$folder")
    [ "$package" = dbservice ] || [ ! -f "$folder/service.py" ] || break
done
service=$(printf %s "$package" | tr _ -)

# Says the command, and runs it unless this is a dry run.
run() {
    if [ "$1" = kube ]; then
        shift
        set -- "$kubectl" ${KUBE_CONTEXT:+--context="$KUBE_CONTEXT"} --namespace="$namespace" "$@"
    fi
    say "+ $*"
    [ -n "$dry_run" ] || "$@"
}

# --- local ---

# Without a DB_TYPE it is SQLite in a file, as for make.
local_settings() {
    DB_TYPE=${DB_TYPE:-sqlite}
    [ "$DB_TYPE" != sqlite ] || DB_NAME=${DB_NAME:-var/$package.db}
    HOST=${HOST:-127.0.0.1} PORT=${PORT:-8000} SHUTDOWN_DELAY=${SHUTDOWN_DELAY:-0}
    export DB_TYPE DB_NAME HOST PORT SHUTDOWN_DELAY
    database="$DB_TYPE ${DB_HOST:+on $DB_HOST, }${DB_NAME:-}"
    case $HOST in
    0.0.0.0 | ::) url=http://127.0.0.1:$PORT ;;
    *:*) url=http://[$HOST]:$PORT ;;
    *) url=http://$HOST:$PORT ;;
    esac
    process=var/local-$PORT.pid log=var/local-$PORT.log
}

# Whether the process $1 runs: one that has ended may stay in the list until its parent asks.
runs() { ps -p "$1" -o stat= 2>/dev/null | grep -q '^[^Z]'; }

# What a health check of this machine's service answers, in a line; fails unless it is 200.
ask() {
    "${PYTHON:-python3}" -c '
import json, sys, urllib.error, urllib.request
try:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sys.argv[1], timeout=10) as answer:
        print(answer.status, answer.read(1000).decode())
except urllib.error.HTTPError as error:
    text = error.read(1000).decode()
    try:
        text = json.loads(text)["detail"]
    except (ValueError, KeyError, TypeError):
        pass
    sys.exit(f"{error.code} {text}")
except OSError as error:
    reason = getattr(error, "reason", error)
    sys.exit(f"no answer: {reason}")
' "$url$1" 2>&1
}

# --- cluster ---

# kubectl, for the cluster of KUBE_CONTEXT or else the current one.
kube() { "$kubectl" ${KUBE_CONTEXT:+--context="$KUBE_CONTEXT"} ${namespace:+--namespace="$namespace"} "$@"; }

# Renders the environment, or its folder $1 with a Job called $2, into the file $manifests. Sets namespace, context and image,
# which IMAGE replaces.
render() {
    namespace='' overlay=var/deploy/$environment/${1:-service}
    manifests=$overlay/manifests.yaml
    command -v "$kubectl" >/dev/null || fail "$kubectl is not on PATH: install it, or name it in KUBECTL."
    rm -rf "$overlay" && mkdir -p "$overlay"
    kustomization "${1:-}" "${2:-}" >"$overlay/kustomization.yaml"
    kustomize "$overlay"
    if [ -n "${IMAGE:-}" ]; then
        replaced_image "$IMAGE" >>"$overlay/kustomization.yaml"
        kustomize "$overlay"
    fi
    namespace=$(sed -n 's/^  namespace: //p' "$manifests" | head -n 1)
    [ -n "$namespace" ] || fail "deploy/environments/$environment/common/kustomization.yaml has no namespace: write one."
    context=${KUBE_CONTEXT:-$("$kubectl" config current-context 2>/dev/null || :)}
    [ -n "$context" ] || [ -n "$dry_run" ] || fail "kubectl has no current context: select a cluster, or name one in KUBE_CONTEXT."
    say "$purpose"
    say "  context    ${context:-none}"
    say "  namespace  $namespace"
    say "  image      $image"
    say "  manifests  $manifests"
}

kustomization() {
    say 'apiVersion: kustomize.config.k8s.io/v1beta1'
    say 'kind: Kustomization'
    say "resources: [../../../../deploy/environments/$environment${1:+/$1}]"
    [ -z "$2" ] || printf '%s\n' 'patches:' '  - target: {kind: Job}' '    options: {allowNameChange: true}' \
        "    patch: '[{\"op\": \"replace\", \"path\": \"/metadata/name\", \"value\": \"$2\"}]'"
}

kustomize() {
    "$kubectl" kustomize "$1" >"$manifests" || fail "the manifests of $environment cannot be rendered: see the error above."
    image=$(awk '$1 == "image:" || $2 == "image:" { image = $NF } /^ +name: (service|migrate)$/ && image { print image; exit }' "$manifests")
}

# The kustomization that replaces the image, which is <name>[:<tag>][@<digest>].
replaced_image() {
    say 'images:'
    say "  - name: $(name_of_image "$image")"
    say "    newName: $(name_of_image "$1")"
    tag=${1%%@*} tag=${tag#"$(name_of_image "$1")"}
    [ -z "$tag" ] || say "    newTag: \"${tag#:}\""
    case $1 in *@*) say "    digest: ${1#*@}" ;; esac
}

name_of_image() {
    name=${1%%@*}
    case ${name##*/} in *:*) name=${name%:*} ;; esac
    printf %s "$name"
}

# Fails if the namespace, or the Secret $1 in it with the keys that follow, does not exist. What may not be asked is not asked.
check_cluster() {
    [ -z "$dry_run" ] || return 0
    exists namespace "$namespace" || fail "the cluster of $context has no namespace $namespace: select another cluster with" \
        "KUBE_CONTEXT, or: kubectl create namespace $namespace"
    secret=$1
    shift
    [ $# -gt 0 ] || return 0
    exists secret "$secret" || fail "there is no Secret $secret in $namespace, with the keys $*. Make it from files with the passwords:" \
        "kubectl --namespace $namespace create secret generic $secret $(for key in "$@"; do printf -- '--from-file=%s ' "$key"; done)"
}

exists() {
    error=$(kube get "$1" "$2" -o name 2>&1 >/dev/null) && return
    case $error in
    *NotFound* | *'not found'*) return 1 ;;
    *orbidden*) return 0 ;;
    *) fail "the cluster of $context cannot be asked: $error" ;;
    esac
}

# The keys of the Secret $1 that the manifests mount.
keys_of_secret() {
    awk -v secret="$1" '$1 == "secret:" { keys = "" } $2 == "key:" { keys = keys " " $3 } $1 == "secretName:" && $2 == secret { print keys }' "$manifests"
}

# Shows on stderr why pods with the labels $1 do not run.
show_pods() {
    warn
    kube get pods --selector "$1" >&2 || :
    kube get events --field-selector type=Warning --sort-by=.lastTimestamp 2>/dev/null | tail -n 6 >&2 || :
    kube logs --selector "$1" --all-containers --prefix --tail=5 >&2 2>/dev/null || :
    warn
}
