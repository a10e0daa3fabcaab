{{/* Parts of a CiliumNetworkPolicy. */}}

{{/* list root peers: pods of NetworkPolicy peers as Cilium's endpoint selectors, which take namespaces by label. */}}
{{- define "broker.ciliumEndpoints" -}}
{{- range index . 1 }}
{{- if .ipBlock -}}
{{- fail "networkPolicy: with flavor cilium peers of dns and ingress are pods and namespaces; ipBlock is for vault.to and upstreams." -}}
{{- end -}}
{{- $pods := default dict .podSelector -}}{{- $spaces := default dict .namespaceSelector -}}
{{- if or $pods.matchExpressions $spaces.matchExpressions -}}
{{- fail "networkPolicy: with flavor cilium write peers with matchLabels; matchExpressions are not carried over." -}}
{{- end -}}
{{- $labels := dict -}}
{{- range $key, $value := default dict $pods.matchLabels -}}{{- $_ := set $labels (printf "k8s:%s" $key) $value -}}{{- end -}}
{{- range $key, $value := default dict $spaces.matchLabels -}}{{- $_ := set $labels (printf "k8s:io.cilium.k8s.namespace.labels.%s" $key) $value -}}{{- end -}}
{{- if and (hasKey . "namespaceSelector") (not $spaces.matchLabels) }}
- matchExpressions: [{key: "k8s:io.kubernetes.pod.namespace", operator: Exists}]
  matchLabels: {{ toJson $labels }}
{{- else }}
- matchLabels: {{ toJson $labels }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Egress of every pod of the release: DNS and Vault. */}}
{{- define "broker.ciliumEgress" -}}
{{- $policy := .Values.networkPolicy -}}
{{- with $policy.dns.to }}
- toEndpoints: {{- include "broker.ciliumEndpoints" (list $ .) | nindent 4 }}
  toPorts:
    - ports: [{{ range $n, $port := $policy.dns.ports }}{{ if $n }}, {{ end }}{port: {{ int $port | quote }}, protocol: ANY}{{ end }}]
      rules: {dns: [{matchPattern: "*"}]}  # names are learned from what is asked here
{{- end }}
{{- $peers := include "broker.vaultPeers" . }}
{{- $vault := printf `[{ports: [{port: "%s", protocol: TCP}]}]` (include "broker.vaultPort" .) }}
{{- if not $peers }}
- toFQDNs: [{matchName: {{ include "broker.vaultHost" . | quote }}}]
  toPorts: {{ $vault }}
{{- else }}
{{- range fromJsonArray $peers }}
{{- if .ipBlock }}
- toCIDRSet: [{{ toJson .ipBlock }}]
{{- else }}
- toEndpoints: {{- include "broker.ciliumEndpoints" (list $ (list .)) | nindent 4 }}
{{- end }}
  toPorts: {{ $vault }}
{{- end }}
{{- end }}
{{- end -}}

{{/* list blocks names: declared destinations outside. */}}
{{- define "broker.ciliumOutside" -}}
{{- range index . 0 }}
- toCIDRSet: [{{ omit . "ports" | toJson }}]
  toPorts: [{ports: [{{ range $n, $port := default (list 443) .ports }}{{ if $n }}, {{ end }}{port: {{ int $port | quote }}, protocol: TCP}{{ end }}]}]
{{- end }}
{{- with index . 1 }}
- toFQDNs:
    {{- range . }}
    - {{ ternary "matchPattern" "matchName" (contains "*" .) }}: {{ . | quote }}
    {{- end }}
  toPorts: [{ports: [{port: "443", protocol: TCP}]}]
{{- end }}
{{- end -}}

{{/* Of whoever rotates: the API server, which Cilium knows, and the providers. */}}
{{- define "broker.ciliumRotation" -}}
- toEntities: [kube-apiserver]
  toPorts: [{ports: [{port: {{ int .Values.networkPolicy.apiServer.port | quote }}, protocol: TCP}]}]
{{- include "broker.ciliumOutside" (list .Values.networkPolicy.providers .Values.networkPolicy.providerNames) }}
{{- end -}}
