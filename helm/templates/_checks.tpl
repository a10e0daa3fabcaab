{{/* Contradictions, each refused with a sentence that says what to write instead. */}}
{{- define "broker.checks" -}}
{{- if not .Values.vault.address -}}
{{- fail "vault.address is missing: set it to the origin of Vault, such as https://vault.vault.svc:8200." -}}
{{- end -}}
{{- if not .Values.servers -}}
{{- fail "servers is empty: name at least one MCP server under servers.<name>, with its credentials." -}}
{{- end -}}
{{- $mode := include "broker.mode" . -}}
{{- if and (eq $mode "native") (semverCompare "<1.29.0-0" (include "broker.kubeVersion" .)) -}}
{{- fail (printf "sidecar.mode native needs Kubernetes 1.29 or newer and this is %s: use auto or classic." (include "broker.kubeVersion" .)) -}}
{{- end -}}
{{- if and (eq $mode "classic") (eq .Values.startup.gate "keys") -}}
{{- fail "startup.gate keys needs a native sidecar (Kubernetes 1.29 or newer): in classic mode all containers start together, so use process or auto." -}}
{{- end -}}
{{- if and .Values.vault.tls.caConfigMap .Values.vault.tls.caSecret -}}
{{- fail "vault.tls.caConfigMap and vault.tls.caSecret both name a CA: keep one." -}}
{{- end -}}
{{- if and .Values.vault.tls.unsafeSkipVerify (or .Values.vault.tls.caConfigMap .Values.vault.tls.caSecret) -}}
{{- fail "vault.tls.unsafeSkipVerify switches off the verification that the CA asks for: remove it." -}}
{{- end -}}
{{- if and (hasPrefix "http://" .Values.vault.address) (not .Values.vault.tls.unsafePlainHttp) -}}
{{- fail "vault.address is http://, which sends tokens and secrets in clear: use https://, or set vault.tls.unsafePlainHttp for a test." -}}
{{- end -}}
{{- if not (or .Values.listeners.unix .Values.listeners.tcp) -}}
{{- fail "listeners.unix is false and listeners.tcp is empty: no server could ask the broker." -}}
{{- end -}}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) -}}
{{- fail "serviceAccount.create is false and serviceAccount.name is empty: name the account Vault's role is bound to." -}}
{{- end -}}
{{- if and .Values.networkPolicy.upstreamNames (ne .Values.networkPolicy.flavor "cilium") -}}
{{- fail "networkPolicy.upstreamNames needs networkPolicy.flavor cilium: a NetworkPolicy knows addresses only, so declare networkPolicy.upstreams." -}}
{{- end -}}
{{- if .Values.networkPolicy.enabled -}}{{- $_ := include "broker.vaultPeers" . -}}{{- end -}}
{{- if and .Values.podDisruptionBudget.enabled (lt (int .Values.deployment.replicas) 2) -}}
{{- fail "podDisruptionBudget.enabled with one replica protects nothing: set deployment.replicas to 2 or more." -}}
{{- end -}}
{{- include "broker.checks.literals" (list "broker.extraEnv" .Values.broker.extraEnv) -}}
{{- include "broker.checks.servers" . -}}
{{- if ne (include "broker.rotationMode" .) "off" -}}{{- include "broker.checks.rotation" . -}}{{- end -}}
{{- end -}}

{{- define "broker.checks.rotation" -}}
{{- $mode := include "broker.rotationMode" . -}}{{- $policy := .Values.networkPolicy -}}
{{- if not .Values.rotation.installation -}}
{{- fail "rotation.installation is empty: give this installation a name that no other with the same account at a provider has; it stands in the label of every key." -}}
{{- end -}}
{{- $rotations := include "broker.rotations" . | fromJson -}}
{{- if not $rotations -}}
{{- fail (printf "rotation.mode is %s and no credential has rotation: write credentials.<name>.rotation, or set the mode to off." $mode) -}}
{{- end -}}
{{- if and (eq $mode "rotator") (eq (include "broker.rotatorRole" .) (include "broker.vaultRole" .)) -}}
{{- fail "rotation.rotator.vaultRole is the servers' own role (vault.role), which would let every pod write: give the rotator another." -}}
{{- end -}}
{{- if and $policy.providerNames (ne $policy.flavor "cilium") -}}
{{- fail "networkPolicy.providerNames needs networkPolicy.flavor cilium: a NetworkPolicy knows addresses only, so declare networkPolicy.providers." -}}
{{- end -}}
{{- if $policy.enabled -}}
{{- if and (eq $policy.flavor "kubernetes") (not $policy.apiServer.to) -}}
{{- fail "networkPolicy.apiServer.to is empty and rotation elects its leader by the Kubernetes API: name its addresses ('kubectl get endpoints kubernetes'), such as [{ipBlock: {cidr: 198.51.100.1/32}}]." -}}
{{- end -}}
{{- $reached := concat (default list $policy.providers) (default list $policy.providerNames) -}}
{{- if eq $mode "sidecar" -}}{{- $reached = concat $reached (default list $policy.upstreams) (default list $policy.upstreamNames) -}}{{- end -}}
{{- range $name, $rotation := $rotations -}}
{{- if and (or (eq $rotation.driver.kind "http") $rotation.prove) (not $reached) -}}
{{- fail (printf "credentials.%s.rotation calls its provider, which the network policy does not let it reach: declare networkPolicy.providers." $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* list path env: what a variable is called tells a literal secret, which would stand in every Deployment. */}}
{{- define "broker.checks.literals" -}}
{{- $path := index . 0 -}}
{{- range default list (index . 1) -}}
{{- if and .value (regexMatch "(?i)(^|_)(PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|ACCESS_KEY|PRIVATE_KEY)$" .name) -}}
{{- fail (printf "%s: %s holds a literal secret, by its name: put it into Vault, name its path under credentials, and consider the old one known." $path .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "broker.checks.servers" -}}
{{- $uids := dict -}}{{- $labels := dict -}}{{- $ports := dict (toString (int .Values.listeners.operationsPort)) "listeners.operationsPort" -}}
{{- range .Values.listeners.tcp -}}{{- $_ := set $ports (last (splitList ":" .)) "listeners.tcp" -}}{{- end -}}
{{- range $name, $server := .Values.servers -}}
{{- if and $.Values.deployment.create (not $server.image) -}}
{{- fail (printf "servers.%s.image is missing: set it to the image of your MCP server, or deployment.create to false when a chart of yours runs it." $name) -}}
{{- end -}}
{{- if eq $name "broker" -}}
{{- fail "servers.broker: the broker's own container has that name; choose another." -}}
{{- end -}}
{{- range default list $server.credentials -}}
{{- if not (hasKey $.Values.credentials .) -}}
{{- fail (printf "servers.%s.credentials names %s, which credentials does not have." $name .) -}}
{{- end -}}
{{- end -}}
{{- include "broker.checks.literals" (list (printf "servers.%s.env" $name) $server.env) -}}
{{- $uid := include "broker.serverUid" $server -}}
{{- if and (not $.Values.security.openshift) (eq $uid (toString (int64 $.Values.broker.uid))) -}}
{{- fail (printf "servers.%s.uid is the broker's own (%s): give the server another." $name $uid) -}}
{{- end -}}
{{- if ne (default "token" $server.proof) "token" -}}
{{- if $.Values.security.openshift -}}
{{- fail (printf "servers.%s.proof %s needs a known uid, which OpenShift assigns: use token." $name $server.proof) -}}
{{- end -}}
{{- if not $.Values.listeners.unix -}}
{{- fail (printf "servers.%s.proof %s needs the server's socket: set listeners.unix to true, or use token." $name $server.proof) -}}
{{- end -}}
{{- end -}}
{{- with get $uids $uid -}}
{{- if or (ne (default "token" $server.proof) "token") (ne (default "token" (get $.Values.servers .).proof) "token") -}}
{{- fail (printf "servers.%s and servers.%s have the uid %s, which is to prove who is who: give each its own." . $name $uid) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $uids $uid $name -}}
{{- range $label, $port := default dict $server.ports -}}
{{- with get $ports (toString (int $port)) -}}
{{- fail (printf "servers.%s.ports.%s is %d, which %s has: the containers of a pod share their ports." $name $label (int $port) .) -}}
{{- end -}}
{{- with get $labels $label -}}
{{- fail (printf "servers.%s.ports.%s: servers.%s has a port of that name too; names are unique in a pod." $name $label .) -}}
{{- end -}}
{{- $_ := set $ports (toString (int $port)) (printf "servers.%s" $name) -}}
{{- $_ := set $labels $label $name -}}
{{- end -}}
{{- end -}}
{{- end -}}
