{{/* Peers and ports of Vault; the in-cluster address names its namespace. JSON: {"ports": […], "to": […]} or with "name". */}}
{{- define "broker.vaultPort" -}}
{{- $authority := (urlParse .Values.vault.address).host -}}
{{- $written := regexFind ":[0-9]+$" $authority | trimPrefix ":" -}}
{{- $usual := ternary "443" "80" (hasPrefix "https:" .Values.vault.address) -}}
{{- default (default $usual $written) (ternary "" (toString (int .Values.networkPolicy.vault.port)) (eq (int .Values.networkPolicy.vault.port) 0)) -}}
{{- end -}}

{{- define "broker.vaultHost" -}}
{{- regexReplaceAll ":[0-9]+$" (urlParse .Values.vault.address).host "" | trimPrefix "[" | trimSuffix "]" -}}
{{- end -}}

{{/* Peers of a NetworkPolicy, as JSON; for Cilium an outside host stays a name. */}}
{{- define "broker.vaultPeers" -}}
{{- $host := include "broker.vaultHost" . -}}
{{- if .Values.networkPolicy.vault.to -}}
{{- toJson .Values.networkPolicy.vault.to -}}
{{- else if regexMatch "^[a-z0-9-]+[.][a-z0-9-]+[.]svc([.].+)?$" $host -}}
{{- list (dict "namespaceSelector" (dict "matchLabels" (dict "kubernetes.io/metadata.name" (index (splitList "." $host) 1)))) | toJson -}}
{{- else if regexMatch "^[0-9]+([.][0-9]+){3}$" $host -}}
{{- list (dict "ipBlock" (dict "cidr" (printf "%s/32" $host))) | toJson -}}
{{- else if contains ":" $host -}}
{{- list (dict "ipBlock" (dict "cidr" (printf "%s/128" $host))) | toJson -}}
{{- else if eq .Values.networkPolicy.flavor "kubernetes" -}}
{{- fail (printf "networkPolicy.vault.to is empty and %s does not say where Vault is: name its peers, such as [{ipBlock: {cidr: 198.51.100.7/32}}], or set networkPolicy.enabled to false." $host) -}}
{{- end -}}
{{- end -}}

{{/* The servers' ports as policies write them, JSON. */}}
{{- define "broker.serverPorts" -}}
{{- $ports := list -}}
{{- range .Values.servers -}}{{- range $label, $port := default dict .ports -}}
{{- $ports = append $ports (int $port) -}}
{{- end -}}{{- end -}}
{{- toJson $ports -}}
{{- end -}}

{{/* Egress of every pod of the release, as a NetworkPolicy has it: DNS and Vault. */}}
{{- define "broker.egress" -}}
{{- $policy := .Values.networkPolicy -}}
{{- with $policy.dns.to }}
- to: {{- toYaml . | nindent 4 }}
  ports:
    {{- range $policy.dns.ports }}
    - {protocol: UDP, port: {{ int . }}}
    - {protocol: TCP, port: {{ int . }}}
    {{- end }}
{{- end }}
- to: {{- include "broker.vaultPeers" . | fromJsonArray | toYaml | nindent 4 }}
  ports:
    - {protocol: TCP, port: {{ include "broker.vaultPort" . }}}
{{- end -}}

{{/* Declared blocks with their ports: upstreams, providers. */}}
{{- define "broker.egressBlocks" -}}
{{- range . }}
- to:
    - ipBlock: {{- omit . "ports" | toYaml | nindent 8 }}
  ports:
    {{- range default (list 443) .ports }}
    - {protocol: TCP, port: {{ int . }}}
    {{- end }}
{{- end }}
{{- end -}}

{{/* Of whoever rotates: the API server and the providers. */}}
{{- define "broker.egressRotation" -}}
- to: {{- toYaml .Values.networkPolicy.apiServer.to | nindent 4 }}
  ports:
    - {protocol: TCP, port: {{ int .Values.networkPolicy.apiServer.port }}}
{{- include "broker.egressBlocks" .Values.networkPolicy.providers }}
{{- end -}}
