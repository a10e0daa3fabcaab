{{/* Volumes of the pod and their mounts. */}}

{{/* include "broker.volumes" . : for spec.volumes of the pod. */}}
{{- define "broker.volumes" -}}
{{ include "broker.processVolumes" (list . (include "broker.configName" .)) }}
{{- if include "broker.rotatesHere" . }}
{{ include "broker.kubernetesVolume" . }}
{{- end }}
{{- with include "broker.auditVolume" . }}
{{ . }}
{{- end }}
{{- range $name, $server := .Values.servers }}
- name: broker-client-{{ $name }}
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
{{- end }}
{{- end -}}

{{/* list root configMap: of one process, whichever it is. */}}
{{- define "broker.processVolumes" -}}
{{- $root := index . 0 -}}{{- $tls := $root.Values.vault.tls -}}
- name: broker-config
  {{- if and $root.Values.policies (ne (index . 1) (include "broker.rotatorConfigName" $root)) }}
  projected:
    sources:
      - configMap: {name: {{ index . 1 }}}
      - configMap:
          name: {{ include "broker.policiesName" $root }}
          items:
            {{- range $name := keys $root.Values.policies | sortAlpha }}
            - {key: {{ $name }}, path: policies/{{ $name }}}
            {{- end }}
  {{- else }}
  configMap:
    name: {{ index . 1 }}
  {{- end }}
- name: broker-token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: token
          audience: {{ $root.Values.serviceAccount.audience | quote }}
          expirationSeconds: {{ int $root.Values.serviceAccount.expirationSeconds }}
- name: broker-admin
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
- name: broker-tmp
  emptyDir: {medium: Memory, sizeLimit: 16Mi}
{{- with $tls.caConfigMap }}
- name: broker-ca
  configMap:
    name: {{ . }}
    items: [{key: {{ $root.Values.vault.tls.caKey | quote }}, path: ca.crt}]
{{- end }}
{{- with $tls.caSecret }}
- name: broker-ca
  secret:
    secretName: {{ . }}
    items: [{key: {{ $root.Values.vault.tls.caKey | quote }}, path: ca.crt}]
{{- end }}
{{- with $tls.clientSecret }}
- name: broker-tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- with $root.Values.audit.keySecret }}
- name: broker-audit-key
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items: [{key: {{ $root.Values.audit.keyName | quote }}, path: audit.key}]
{{- end }}
{{- end -}}

{{/* Where the servers' pods keep the audit log. */}}
{{- define "broker.auditVolume" -}}
{{- $volume := .Values.audit.volume -}}
{{- if eq $volume.type "emptyDir" -}}
- name: broker-audit
  emptyDir: {sizeLimit: {{ $volume.size }}}
{{- else if eq $volume.type "claim" -}}
- name: broker-audit
  persistentVolumeClaim: {claimName: {{ $volume.claim }}}
{{- end -}}
{{- end -}}

{{/* Of the broker's container. */}}
{{- define "broker.mounts" -}}
- {name: broker-config, mountPath: /etc/broker, readOnly: true}
- {name: broker-token, mountPath: /var/run/secrets/broker, readOnly: true}
- {name: broker-admin, mountPath: /run/broker-admin}
- {name: broker-tmp, mountPath: /tmp}
{{- if or .Values.vault.tls.caConfigMap .Values.vault.tls.caSecret }}
- {name: broker-ca, mountPath: /etc/broker-ca, readOnly: true}
{{- end }}
{{- if .Values.vault.tls.clientSecret }}
- {name: broker-tls, mountPath: /etc/broker-tls, readOnly: true}
{{- end }}
{{- if .Values.audit.keySecret }}
- {name: broker-audit-key, mountPath: /etc/broker-audit, readOnly: true}
{{- end }}
{{- end -}}

{{/* include "broker.clientMount" "search-mcp" : of that server's container. The whole directory: a file mounted
     by subPath would stay the old one after a change. */}}
{{- define "broker.clientMount" -}}
- {name: broker-client-{{ . }}, mountPath: /run/broker/{{ . }}, readOnly: true}
{{- end -}}

{{/* include "broker.clientEnv" (list . "search-mcp") : of that server's container. */}}
{{- define "broker.clientEnv" -}}
{{- $root := index . 0 -}}{{- $name := index . 1 -}}
{{- if $root.Values.listeners.unix }}
- {name: BROKER_URL, value: "unix:///run/broker/{{ $name }}/broker.sock"}
{{- else }}
- {name: BROKER_URL, value: "http://{{ first $root.Values.listeners.tcp }}"}
- {name: BROKER_TOKEN_FILE, value: /run/broker/{{ $name }}/client-token}
{{- end }}
{{- end -}}
