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
