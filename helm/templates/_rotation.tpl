{{/* Rotation of upstream keys: who rotates, with which account, role, Lease and policy. */}}

{{/* off | sidecar | rotator; YAML reads an unquoted off as false. */}}
{{- define "broker.rotationMode" -}}
{{- $mode := toString .Values.rotation.mode -}}
{{- ternary "off" $mode (eq $mode "false") -}}
{{- end -}}

{{/* The servers' pods rotate: "true" or nothing. */}}
{{- define "broker.rotatesHere" -}}
{{- if eq (include "broker.rotationMode" .) "sidecar" -}}true{{- end -}}
{{- end -}}

{{- define "broker.rotatorName" -}}
{{- include "broker.suffixed" (list . "rotator") -}}
{{- end -}}

{{- define "broker.rotatorConfigName" -}}
{{- include "broker.suffixed" (list . "rotator-config") -}}
{{- end -}}

{{- define "broker.rotatorRole" -}}
{{- default (include "broker.rotatorName" .) .Values.rotation.rotator.vaultRole -}}
{{- end -}}

{{- define "broker.leaseName" -}}
{{- default (include "broker.suffixed" (list . "rotation")) .Values.rotation.election.lease -}}
{{- end -}}

{{- define "broker.rotatorSelectorLabels" -}}
{{ include "broker.releaseLabels" . }}
app.kubernetes.io/component: rotator
{{- end -}}

{{/* In selectors of policies: with a rotator all pods of the release but its own, which have a policy of theirs. */}}
{{- define "broker.notTheRotator" -}}
{{- if eq (include "broker.rotationMode" .) "rotator" -}}
matchExpressions: [{key: app.kubernetes.io/component, operator: NotIn, values: [rotator]}]
{{- end -}}
{{- end -}}

{{/* Account of whoever rotates: what the Role is bound to. */}}
{{- define "broker.rotationAccount" -}}
{{- if include "broker.rotatesHere" . -}}
{{- include "broker.serviceAccountName" . -}}
{{- else -}}
{{- include "broker.rotatorName" . -}}
{{- end -}}
{{- end -}}

{{/* The section 'rotation' of broker.yaml, as JSON. */}}
{{- define "broker.config.rotation" -}}
{{- $rotation := .Values.rotation -}}{{- $election := $rotation.election -}}
{{- $times := dict "lease_duration" $election.leaseDuration "renew_deadline" $election.renewDeadline "retry_period" $election.retryPeriod -}}
{{- $lease := merge (dict "lease" (include "broker.leaseName" .)) $times -}}
{{- $state := dict "mount" $rotation.state.mount "prefix" $rotation.state.prefix -}}
{{- dict "mode" (include "broker.rotationMode" .) "installation" $rotation.installation "state" $state "election" $lease | toJson -}}
{{- end -}}

{{/* broker.yaml of the rotator: a role of its own, no lingering for servers; no clients, and nothing that is about them. A volume
     for the audit log is the servers' pods': its own records go to standard output. */}}
{{- define "broker.rotatorConfig" -}}
{{- $config := include "broker.config" . | fromYaml -}}
{{- $_ := set $config.vault.auth "role" (include "broker.rotatorRole" .) -}}
{{- $_ := set $config "clients" dict -}}
{{- if ne .Values.audit.volume.type "none" -}}
{{- $_ := set $config "audit" (omit $config.audit "file" "max_bytes" "keep" "sync") -}}
{{- end -}}
{{- $_ := set $config "stop" (dict "delay" "0s" "timeout" (printf "%ds" (int .Values.stop.brokerSeconds))) -}}
{{- omit $config "limits" "policies" "roles" "tokens" | toYaml -}}
{{- end -}}

{{/* How each credential is rotated: a running broker cannot take a change of it over. JSON, {} when none is. */}}
{{- define "broker.rotations" -}}
{{- $found := dict -}}
{{- range $name, $credential := .Values.credentials -}}
{{- with $credential.rotation -}}{{- $_ := set $found $name . -}}{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{/* Names of the credentials that drivers log in with, JSON. */}}
{{- define "broker.lent" -}}
{{- $found := list -}}
{{- range .Values.credentials -}}
{{- if .rotation -}}{{- with .rotation.driver.auth -}}{{- $found = append $found . -}}{{- end -}}{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{/* list root process: names of the credentials that 'broker' or 'rotator' keeps, JSON. */}}
{{- define "broker.held" -}}
{{- $root := index . 0 -}}{{- $process := index . 1 -}}
{{- $lent := include "broker.lent" $root | fromJsonArray -}}
{{- $allowed := list -}}{{- $found := list -}}
{{- range $root.Values.servers -}}{{- $allowed = concat $allowed (default list .credentials) -}}{{- end -}}
{{- range $name, $credential := $root.Values.credentials -}}
{{- if eq $process "rotator" -}}
{{- if or $credential.rotation (has $name $lent) -}}{{- $found = append $found $name -}}{{- end -}}
{{- else if or (include "broker.rotatesHere" $root) (has $name $allowed) (not (has $name $lent)) -}}
{{- $found = append $found $name -}}
{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{/* Mounts and environment of the container that rotates: the API server's token, and which pod it is. */}}
{{- define "broker.kubernetesMount" -}}
- {name: broker-kubernetes, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- end -}}

{{- define "broker.kubernetesEnv" -}}
- {name: BROKER__KUBERNETES__POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: BROKER__KUBERNETES__POD_UID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
{{- end -}}

{{- define "broker.kubernetesVolume" -}}
- name: broker-kubernetes
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: {{ int .Values.serviceAccount.expirationSeconds }}}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
      - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
{{- end -}}
