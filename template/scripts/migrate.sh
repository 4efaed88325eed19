#!/bin/sh
# Brings the schema of an environment up to date, and waits until it is: before new code is deployed there.
set -eu
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/environment.sh"
purpose='Migrates the database of an environment, and waits until it is done.'
read_arguments "$@"

if [ "$environment" = local ]; then
    local_settings
    purpose="Migrates the database of $service on this machine: $database"
    say "$purpose"
    run make --no-print-directory migrate || fail "the database was not migrated: see the error above."
    exit
fi

if [ ! -d "deploy/environments/$environment/migrate" ]; then
    if [ -f deploy/k8s/base/volume.yaml ]; then
        say "$service migrates its SQLite file itself, before it starts: nothing to do."
    else
        say "$service owns no tables: nothing to migrate."
    fi
    exit
fi

job=$service-migrate-$(date +%Y%m%d-%H%M%S)
purpose="Migrates the database of $service in $environment, with the Job $job."
render migrate "$job"
# shellcheck disable=SC2046 # words
check_cluster "$service-migrate" $(keys_of_secret "$service-migrate")
run kube apply --filename "$manifests" || fail "the Job $job was not created: see the error above."
[ -z "$dry_run" ] || exit 0

left=${MIGRATE_TIMEOUT:-3600}
labels=batch.kubernetes.io/job-name=$job
while :; do
    conditions=$(kube get job "$job" --output 'jsonpath={.status.conditions[?(@.status=="True")].type}') || conditions=unknown
    case " $conditions " in
    *' Complete '*) break ;;
    *' Failed '*)
        show_pods "$labels"
        fail "the migration failed: see its log above. The service goes on as it is; mend the cause and run this again."
        ;;
    esac
    waiting=$(kube get pods --selector "$labels" --output 'jsonpath={.items[*].status.containerStatuses[*].state.waiting.reason}') || waiting=
    case $waiting in
    *Image* | *CreateContainer*)
        show_pods "$labels"
        kube delete job "$job" >/dev/null || :
        fail "the migration cannot start ($waiting): see above. Nothing was changed."
        ;;
    esac
    if [ "$left" -le 0 ]; then
        show_pods "$labels"
        fail "the migration has not ended within ${MIGRATE_TIMEOUT:-3600} seconds. It goes on; to wait: kubectl" \
            "--namespace $namespace wait --for=condition=complete --timeout=1h job/$job"
    fi
    sleep 2
    left=$((left - 2))
done
kube logs "job/$job" --tail=20
say "The database of $environment is up to date. Next: make deploy-$environment"
