#!/bin/sh
# Makes in Vault or OpenBao what one release of the broker needs: KV mount, kubernetes auth method, policy, role.
# Run it as often as you like: what is there stays, policy and role become what is written here.
# It needs bao or vault, their address and a token that may do this, in the environment or in TOKEN_FILE.
set -eu

CLI=${CLI:-bao}
NAME=${NAME:-search-mcp}                                  # of policy and role
NAMESPACE=${NAMESPACE:-mcp}                               # where the pods run
SERVICE_ACCOUNT=${SERVICE_ACCOUNT:-search-mcp}            # as whom
AUDIENCE=${AUDIENCE:-vault}                               # serviceAccount.audience of the chart
AUTH_MOUNT=${AUTH_MOUNT:-kubernetes}
KV_MOUNT=${KV_MOUNT:-secret}
TOKEN_TTL=${TOKEN_TTL:-1h}
KUBERNETES_HOST=${KUBERNETES_HOST:-https://kubernetes.default.svc}
KUBERNETES_CA_FILE=${KUBERNETES_CA_FILE:-}                # only when Vault runs outside of the cluster,
REVIEWER_TOKEN_FILE=${REVIEWER_TOKEN_FILE:-}              # as is this: the token it asks TokenReview with
POLICY_FILE=${POLICY_FILE:-$(dirname "$0")/policy.hcl}

if [ -n "${TOKEN_FILE:-}" ]; then
    BAO_TOKEN=$(cat "$TOKEN_FILE")
    VAULT_TOKEN=$BAO_TOKEN
    export BAO_TOKEN VAULT_TOKEN
fi

fail() {
    echo "setup: $1" >&2
    exit 1
}

"$CLI" token lookup >/dev/null || fail "$CLI cannot reach Vault, or its token is no good: see above"

# A type or nothing; the mount itself tells the two apart.
type_of() {
    "$CLI" read -field=type "$1" 2>/dev/null || true
}

case $(type_of "sys/mounts/$KV_MOUNT") in
    kv) "$CLI" read -field=options "sys/mounts/$KV_MOUNT" | grep -q 'version:2' ||
        fail "$KV_MOUNT is KV version 1: name another KV_MOUNT, or write version: 1 in the credentials' sources" ;;
    '') "$CLI" secrets enable -path="$KV_MOUNT" -version=2 kv ;;
    *) fail "$KV_MOUNT is mounted and is no KV engine: name another KV_MOUNT" ;;
esac

case $(type_of "sys/auth/$AUTH_MOUNT") in
    kubernetes) ;;
    '') "$CLI" auth enable -path="$AUTH_MOUNT" kubernetes ;;
    *) fail "$AUTH_MOUNT is an auth method of another kind: name another AUTH_MOUNT" ;;
esac

# A configuration that is there may be others' too, and is left alone.
if ! "$CLI" read "auth/$AUTH_MOUNT/config" >/dev/null 2>&1; then
    set -- "kubernetes_host=$KUBERNETES_HOST"
    [ -z "$KUBERNETES_CA_FILE" ] || set -- "$@" "kubernetes_ca_cert=@$KUBERNETES_CA_FILE"
    [ -z "$REVIEWER_TOKEN_FILE" ] || set -- "$@" "token_reviewer_jwt=@$REVIEWER_TOKEN_FILE"
    "$CLI" write "auth/$AUTH_MOUNT/config" "$@"
fi

"$CLI" policy write "$NAME" "$POLICY_FILE"
"$CLI" write "auth/$AUTH_MOUNT/role/$NAME" \
    bound_service_account_names="$SERVICE_ACCOUNT" \
    bound_service_account_namespaces="$NAMESPACE" \
    audience="$AUDIENCE" token_policies="$NAME" token_ttl="$TOKEN_TTL"
