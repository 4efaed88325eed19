#!/bin/sh
# Whether the service of an environment works: exit status 0 if it does, 1 with the reason if it does not.
set -eu
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/environment.sh"
purpose='Checks whether the service of an environment works.'
read_arguments "$@"

if [ "$environment" = local ]; then
    local_settings
    say "Asks $service on this machine: $url"
    for path in /healthz /readyz; do
        say "+ GET $url$path"
        [ -n "$dry_run" ] || answer=$(ask $path) || fail "$path of $url: $answer"
        [ -n "$dry_run" ] || say "$answer"
    done
    exit
fi

purpose="Checks $service in $environment: the pods that /healthz and /readyz say are well."
render
check_cluster "$service"
labels=app.kubernetes.io/name=$service,app.kubernetes.io/component=service
if ! run kube rollout status "deployment/$service" "--timeout=${HEALTH_TIMEOUT:-60}s"; then
    show_pods "$labels"
    fail "$service is not well in $environment: see above."
fi
[ -z "$dry_run" ] || exit 0
ready=$(kube get deployment "$service" --output 'jsonpath={.status.readyReplicas}')
deployed=$(kube get deployment "$service" --output 'jsonpath={.spec.template.spec.containers[?(@.name=="service")].image}')
[ "${ready:-0}" -gt 0 ] || fail "no pod of $service is ready in $environment: the Deployment has been scaled to 0."
kube get pods --selector "$labels"
say "$service is well in $environment: $ready ready, $deployed"
