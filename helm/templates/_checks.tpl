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
{{- if ne .Values.audit.volume.type "none" -}}{{- include "broker.checks.audit" . -}}{{- end -}}
{{- include "broker.checks.literals" (list "broker.extraEnv" .Values.broker.extraEnv) -}}
{{- include "broker.checks.servers" . -}}
{{- if ne (include "broker.rotationMode" .) "off" -}}{{- include "broker.checks.rotation" . -}}{{- end -}}
{{- end -}}

{{- define "broker.checks.audit" -}}
{{- $volume := .Values.audit.volume -}}
{{- if not (regexMatch "^/var/(log|lib)/[^/]+/.*[^/]$" .Values.audit.file) -}}
{{- fail "audit.volume.type is set, and audit.file is in no directory of its own below /var/log or /var/lib: write one, such as /var/log/broker/audit.log." -}}
{{- end -}}
{{- if eq $volume.type "claim" -}}
{{- if not $volume.claim -}}
{{- fail "audit.volume.type is claim and audit.volume.claim is empty: name a PersistentVolumeClaim, or use emptyDir." -}}
{{- end -}}
{{- if or (gt (int .Values.deployment.replicas) 1) (ne (default "" .Values.deployment.strategy.type) "Recreate") -}}
{{- fail "audit.volume.claim is of one pod at a time, as two would write one file: set deployment.replicas to 1 and deployment.strategy to {type: Recreate}, or use emptyDir." -}}
{{- end -}}
{{- end -}}
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
