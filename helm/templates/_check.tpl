{{/* The pods of 'helm test': 'broker check' as each process would start. */}}

{{/* dict root suffix process account config file image: metadata and spec of one. */}}
{{- define "broker.checkPod" -}}
{{- $root := .root -}}
metadata:
  name: {{ include "broker.suffixed" (list $root .suffix) }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "broker.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .suffix }}
  annotations:
    helm.sh/hook: test
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  restartPolicy: Never
  serviceAccountName: {{ .account }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  securityContext: {{- include "broker.podSecurityContext" $root | nindent 4 }}
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: check
      image: {{ .image }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args: [check, --config, /etc/broker/{{ .file }}, --process, {{ .process }}]
      {{- with $root.Values.broker.extraEnv }}
      env: {{- toYaml . | nindent 8 }}
      {{- end }}
      resources: {{- toYaml $root.Values.broker.resources | nindent 8 }}
      securityContext: {{- include "broker.securityContext" (dict "root" $root "uid" $root.Values.broker.uid) | nindent 8 }}
      volumeMounts:
        {{- include "broker.mounts" $root | nindent 8 }}
        {{- with $root.Values.broker.extraVolumeMounts }}{{- toYaml . | nindent 8 }}{{- end }}
  volumes:
    {{- include "broker.processVolumes" (list $root .config) | nindent 4 }}
    {{- with $root.Values.pod.extraVolumes }}{{- toYaml . | nindent 4 }}{{- end }}
{{- end -}}
