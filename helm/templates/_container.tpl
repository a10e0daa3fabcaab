{{/* The containers of the pod. */}}

{{/* include "broker.container" . : for spec.initContainers (broker.mode native) or spec.containers (classic). */}}
{{- define "broker.container" -}}
{{- $operations := int .Values.listeners.operationsPort -}}
- name: broker
  image: {{ include "broker.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args: [run, --config, /etc/broker/broker.yaml]
  {{- if eq (include "broker.mode" .) "native" }}
  restartPolicy: Always
  {{- end }}
  {{- if or .Values.broker.extraEnv (include "broker.rotatesHere" .) }}
  env:
    {{- if include "broker.rotatesHere" . }}{{- include "broker.kubernetesEnv" . | nindent 4 }}{{- end }}
    {{- with .Values.broker.extraEnv }}{{- toYaml . | nindent 4 }}{{- end }}
  {{- end }}
  ports:
    - {name: broker-ops, containerPort: {{ $operations }}}
  startupProbe:
    {{- if eq (include "broker.gate" .) "keys" }}
    httpGet: {path: /readyz, port: {{ $operations }}}
    periodSeconds: 2
    failureThreshold: {{ mul (int .Values.startup.minutes) 30 }}
    {{- else }}
    httpGet: {path: /livez, port: {{ $operations }}}
    periodSeconds: 1
    failureThreshold: 120
    {{- end }}
    timeoutSeconds: 2
  livenessProbe:
    httpGet: {path: /livez, port: {{ $operations }}}
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 6
  readinessProbe:
    httpGet: {path: /readyz, port: {{ $operations }}}
    periodSeconds: 5
    timeoutSeconds: 2
  resources: {{- toYaml .Values.broker.resources | nindent 4 }}
  securityContext: {{- include "broker.securityContext" (dict "root" . "uid" .Values.broker.uid) | nindent 4 }}
  volumeMounts:
    {{- include "broker.mounts" . | nindent 4 }}
    {{- if include "broker.rotatesHere" . }}{{- include "broker.kubernetesMount" . | nindent 4 }}{{- end }}
    {{- if ne .Values.audit.volume.type "none" }}
    - {name: broker-audit, mountPath: {{ dir .Values.audit.file }}}
    {{- end }}
    {{- range $name, $server := .Values.servers }}
    - {name: broker-client-{{ $name }}, mountPath: /run/broker/{{ $name }}}
    {{- end }}
    {{- with .Values.broker.extraVolumeMounts }}{{- toYaml . | nindent 4 }}{{- end }}
{{- end -}}

{{/* dict root uid */}}
{{- define "broker.securityContext" -}}
{{- if not .root.Values.security.openshift -}}
runAsUser: {{ int64 .uid }}
runAsGroup: {{ int64 .uid }}
{{ end -}}
runAsNonRoot: true
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* include "broker.podSecurityContext" . : for spec.securityContext of the pod. */}}
{{- define "broker.podSecurityContext" -}}
{{- if not .Values.security.openshift -}}
fsGroup: {{ int64 .Values.security.fsGroup }}
{{ end -}}
runAsNonRoot: true
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* list root name server: one MCP server. */}}
{{- define "broker.serverContainer" -}}
{{- $root := index . 0 -}}{{- $name := index . 1 -}}{{- $server := index . 2 -}}
- name: {{ $name }}
  image: {{ $server.image }}
  imagePullPolicy: {{ default "IfNotPresent" $server.imagePullPolicy }}
  {{- range $key := list "command" "args" "envFrom" "resources" "startupProbe" "livenessProbe" "readinessProbe" "lifecycle" }}
  {{- with get $server $key }}
  {{ $key }}: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  env:
    {{- include "broker.clientEnv" (list $root $name) | trim | nindent 4 }}
    {{- with $server.env }}{{- toYaml . | nindent 4 }}{{- end }}
  {{- with $server.ports }}
  ports:
    {{- range $label, $port := . }}
    - {name: {{ $label }}, containerPort: {{ int $port }}}
    {{- end }}
  {{- end }}
  securityContext: {{- include "broker.securityContext" (dict "root" $root "uid" (include "broker.serverUid" $server)) | nindent 4 }}
  volumeMounts:
    {{- include "broker.clientMount" $name | nindent 4 }}
    - {name: tmp-{{ $name }}, mountPath: /tmp}
    {{- with $server.extraVolumeMounts }}{{- toYaml . | nindent 4 }}{{- end }}
{{- end -}}
