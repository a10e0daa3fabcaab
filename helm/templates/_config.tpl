{{/* broker.yaml out of the values. The broker's own loader reads each rendered one in the chart's tests. */}}

{{- define "broker.config" -}}
{{- include "broker.checks" . -}}
{{- $auth := dict "method" "kubernetes" "mount" .Values.vault.authMount "role" (include "broker.vaultRole" .) -}}
{{- $_ := set $auth "audience" .Values.serviceAccount.audience -}}
{{- $vault := dict "address" .Values.vault.address "timeout" .Values.vault.timeout "auth" $auth -}}
{{- with .Values.vault.namespace -}}{{- $_ := set $vault "namespace" . -}}{{- end -}}
{{- with .Values.vault.redirectAddresses -}}{{- $_ := set $vault "redirect_addresses" . -}}{{- end -}}
{{- $limits := .Values.vault.limits -}}
{{- $_ := set $vault "limits" (dict "requests_per_second" $limits.requestsPerSecond "burst" $limits.burst "concurrency" $limits.concurrency) -}}
{{- with include "broker.config.tls" . -}}{{- $_ := set $vault "tls" (fromYaml .) -}}{{- end -}}
{{- $listeners := dict "unix" .Values.listeners.unix "tcp" .Values.listeners.tcp "max_wait" .Values.listeners.maxWait -}}
{{- $_ := set $listeners "operations" (printf "[::]:%d" (int .Values.listeners.operationsPort)) -}}
{{- with .Values.listeners.hosts -}}{{- $_ := set $listeners "hosts" . -}}{{- end -}}
{{- $audit := dict "on_failure" .Values.audit.onFailure -}}
{{- with .Values.audit.file -}}{{- $_ := set $audit "file" . -}}{{- end -}}
{{- if .Values.audit.keySecret -}}{{- $_ := set $audit "key_file" "/etc/broker-audit/audit.key" -}}{{- end -}}
{{- $clients := dict -}}
{{- range $name, $server := .Values.servers -}}
{{- $_ := set $clients $name (fromYaml (include "broker.config.client" (list $ $server))) -}}
{{- end -}}
{{- $delay := ternary 0 (int .Values.stop.serverSeconds) (eq (include "broker.mode" .) "native") -}}
{{- $stop := dict "delay" (printf "%ds" $delay) "timeout" (printf "%ds" (add $delay (int .Values.stop.brokerSeconds))) -}}
{{- $log := dict "level" .Values.log.level "format" .Values.log.format -}}
{{- $config := dict "vault" $vault "listeners" $listeners "clients" $clients "credentials" .Values.credentials "audit" $audit "log" $log "stop" $stop -}}
{{- if ne (include "broker.rotationMode" .) "off" -}}
{{- $_ := set $config "rotation" (include "broker.config.rotation" . | fromJson) -}}
{{- end -}}
{{- $files := list -}}
{{- range $name := keys .Values.policies | sortAlpha -}}{{- $files = append $files (printf "policies/%s" $name) -}}{{- end -}}
{{- with $files -}}{{- $_ := set $config "policies" (dict "files" .) -}}{{- end -}}
{{- /* The schema lets nothing through that stands above. */ -}}
{{- merge $config (deepCopy .Values.settings) | toYaml -}}
{{- end -}}

{{- define "broker.config.tls" -}}
{{- $tls := .Values.vault.tls -}}
{{- if or $tls.caConfigMap $tls.caSecret }}
ca_file: /etc/broker-ca/ca.crt
{{- end }}
{{- if $tls.clientSecret }}
cert_file: /etc/broker-tls/tls.crt
key_file: /etc/broker-tls/tls.key
{{- end }}
{{- with $tls.serverName }}
server_name: {{ . }}
{{- end }}
{{- if $tls.unsafeSkipVerify }}
unsafe_skip_verify: true
{{- end }}
{{- if $tls.unsafePlainHttp }}
unsafe_plain_http: true
{{- end }}
{{- end -}}

{{/* list root server */}}
{{- define "broker.config.client" -}}
{{- $root := index . 0 -}}{{- $server := index . 1 -}}
{{- $proof := default "token" $server.proof -}}
credentials: {{ toJson (default list $server.credentials) }}
proof: {{ $proof }}
{{- if ne $proof "token" }}
uid: {{ include "broker.serverUid" $server }}
{{- end }}
{{- if not $root.Values.security.openshift }}
group: {{ int64 $root.Values.security.fsGroup }}
{{- end }}
{{- end -}}

{{- define "broker.serverUid" -}}
{{- int64 (default 10002 .uid) -}}
{{- end -}}

{{/* Of what a running broker cannot take over (docs/configuration.md): a change of it rolls the pods. */}}
{{- define "broker.restartChecksum" -}}
{{- $config := include "broker.config" . | fromYaml -}}
{{- $_ := set $config "audit" (omit $config.audit "on_failure") -}}
{{- range $name, $client := $config.clients -}}
{{- $_ := set $config.clients $name (omit $client "credentials") -}}
{{- end -}}
{{- with include "broker.rotations" . | fromJson -}}{{- $_ := set $config "rotations" . -}}{{- end -}}
{{- $tokens := omit (default dict $config.tokens) "life" "max_life" -}}
{{- $config = omit $config "credentials" "limits" "log" "policies" "roles" "tokens" -}}
{{- with $tokens -}}{{- $_ := set $config "tokens" . -}}{{- end -}}
{{- toJson $config | sha256sum -}}
{{- end -}}
