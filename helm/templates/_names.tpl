{{/* Names, labels and versions. Names of objects have at most 63 characters, whatever their suffix. */}}

{{- define "broker.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "broker.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* A name with a suffix that survives truncation: include "broker.suffixed" (list . "check") */}}
{{- define "broker.suffixed" -}}
{{- $suffix := index . 1 -}}
{{- $name := include "broker.fullname" (index . 0) -}}
{{- printf "%s-%s" ($name | trunc (int (sub 62 (len $suffix))) | trimSuffix "-") $suffix -}}
{{- end -}}

{{- define "broker.configName" -}}
{{- include "broker.suffixed" (list . "config") -}}
{{- end -}}

{{- define "broker.policiesName" -}}
{{- include "broker.suffixed" (list . "policies") -}}
{{- end -}}

{{- define "broker.serviceAccountName" -}}
{{- default (include "broker.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{/* What every pod of the release has, the check's too: the NetworkPolicy selects by it. */}}
{{- define "broker.releaseLabels" -}}
app.kubernetes.io/name: {{ include "broker.name" . }}
app.kubernetes.io/instance: {{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/* What only the servers' pods have: Deployment, Service and budget select by it. */}}
{{- define "broker.selectorLabels" -}}
{{ include "broker.releaseLabels" . }}
app.kubernetes.io/component: servers
{{- end -}}

{{/* list constraints labels: topology spread of the pods with these labels. */}}
{{- define "broker.spread" -}}
{{- $selector := dict "labelSelector" (dict "matchLabels" (index . 1 | fromYaml)) -}}
{{- $spread := list -}}
{{- range index . 0 -}}{{- $spread = append $spread (merge (deepCopy .) $selector) -}}{{- end -}}
{{- toYaml $spread -}}
{{- end -}}

{{- define "broker.labels" -}}
{{ include "broker.releaseLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{- end -}}

{{- define "broker.kubeVersion" -}}
{{- default .Capabilities.KubeVersion.Version .Values.kubeVersion -}}
{{- end -}}

{{/* native | classic */}}
{{- define "broker.mode" -}}
{{- if ne .Values.sidecar.mode "auto" -}}
{{- .Values.sidecar.mode -}}
{{- else -}}
{{- ternary "native" "classic" (semverCompare ">=1.29.0-0" (include "broker.kubeVersion" .)) -}}
{{- end -}}
{{- end -}}

{{/* keys | process */}}
{{- define "broker.gate" -}}
{{- if ne .Values.startup.gate "auto" -}}
{{- .Values.startup.gate -}}
{{- else -}}
{{- ternary "keys" "process" (eq (include "broker.mode" .) "native") -}}
{{- end -}}
{{- end -}}

{{- define "broker.image" -}}
{{- include "broker.imageOf" (list . (ternary .Values.rotation.image .Values.image (eq (include "broker.rotatesHere" .) "true"))) -}}
{{- end -}}

{{/* list root image */}}
{{- define "broker.imageOf" -}}
{{- $root := index . 0 -}}{{- $image := index . 1 -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default $root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* After SIGTERM: first the servers end, then the broker; five seconds more for the kubelet's own work. */}}
{{- define "broker.gracePeriod" -}}
{{- add (int .Values.stop.serverSeconds) (int .Values.stop.brokerSeconds) 5 -}}
{{- end -}}

{{- define "broker.vaultRole" -}}
{{- default (include "broker.fullname" .) .Values.vault.role -}}
{{- end -}}
