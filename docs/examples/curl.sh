#!/bin/sh
# The broker with curl, over its Unix socket or TCP.
#
#   BROKER_URL=unix:///run/broker/search/broker.sock sh curl.sh get search-api
#   BROKER_URL=http://127.0.0.1:8210 BROKER_TOKEN_FILE=/run/broker/search/client-token sh curl.sh whoami
#
#   get NAME [VERSION]    a hand-out; with the version that is held, nothing if it is still current
#   wait NAME SECONDS     the same, waiting for a first value
#   report NAME VERSION   the upstream answered 401 to this version
#   list | whoami
#
# Prints the broker's JSON. Exits with curl's code: 22 for an HTTP error, 7 for no broker.
set -eu

case "${BROKER_URL:?set BROKER_URL}" in
unix://*)
    socket=${BROKER_URL#unix://}
    base=http://localhost
    token_file=${BROKER_TOKEN_FILE:-${socket%/*}/client-token}
    set -- "$@" --unix-socket "$socket"
    ;;
*)
    base=$BROKER_URL
    token_file=${BROKER_TOKEN_FILE:?set BROKER_TOKEN_FILE}
    ;;
esac

# The token goes in by standard input: arguments are seen by every process of the machine.
# printf is the shell's own, so it starts no process either.
ask() {
    printf 'header = "Authorization: Bearer %s"\n' "$(cat "$token_file")" |
        curl --config - --silent --show-error --fail-with-body --noproxy '*' --max-time 70 "$@"
}

command=${1:?get, wait, report, list or whoami}
shift
case "$command" in
get)
    name=$1
    shift
    case "${1:-}" in
    "" | --*) ask "$base/v1/credentials/$name" "$@" ;;
    *)
        version=$1
        shift
        ask --header "If-None-Match: \"$version\"" "$base/v1/credentials/$name" "$@"
        ;;
    esac
    ;;
wait)
    name=$1 seconds=$2
    shift 2
    ask --header "Prefer: wait=$seconds" "$base/v1/credentials/$name" "$@"
    ;;
report)
    name=$1 version=$2
    shift 2
    ask --header "Content-Type: application/json" \
        --data "{\"version\": \"$version\", \"status\": 401}" \
        "$base/v1/credentials/$name/reports" "$@"
    ;;
list) ask "$base/v1/credentials" "$@" ;;
whoami) ask "$base/v1/whoami" "$@" ;;
*)
    echo "get, wait, report, list or whoami; not $command" >&2
    exit 64
    ;;
esac
