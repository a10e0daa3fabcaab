{{/* The least Vault policies of this release: those of 'broker policy vault', which a test compares, less what Vault's
     policy 'default' allows every token to do with itself. */}}

{{/* list root process */}}
{{- define "broker.policy" -}}
{{- $root := index . 0 -}}{{- $process := index . 1 -}}
{{- $rules := dict -}}{{- $leased := false -}}
{{- range $name := include "broker.held" . | fromJsonArray -}}
{{- $source := (get $root.Values.credentials $name).source -}}
{{- if eq $source.kind "kv" -}}
{{- $_ := set $rules (printf (ternary "%s/%s" "%s/data/%s" (eq (int (default 2 $source.version)) 1)) $source.mount $source.path) (list "read") -}}
{{- else -}}
{{- if eq $source.kind "leased" -}}{{- $leased = true -}}{{- end -}}
{{- $_ := set $rules $source.path (list (ternary "update" "read" (eq (default "read" $source.method) "write"))) -}}
{{- end -}}
{{- end -}}
{{- if $leased -}}
{{- $_ := set $rules "sys/leases/renew" (list "update") -}}
{{- $_ := set $rules "sys/leases/revoke" (list "update") -}}
{{- end -}}
{{- $tokens := default dict $root.Values.settings.tokens -}}
{{- if and (eq $process "broker") (eq (default "pod" $tokens.store) "shared") -}}
{{- $where := printf "%s/data/%s" (default "secret" $tokens.mount) (required "settings.tokens.path is missing: the store 'shared' keeps its key and revocations below it, each installation its own." $tokens.path) -}}
{{- $_ := set $rules (printf "%s/key" $where) (list "create" "read") -}}
{{- $_ := set $rules (printf "%s/revocations" $where) (list "create" "read" "update") -}}
{{- end -}}
{{- if or (eq $process "rotator") (include "broker.rotatesHere" $root) -}}
{{- include "broker.policy.rotation" (list $root $rules) -}}
{{- end -}}
{{- range $path := keys $rules | sortAlpha }}
path {{ $path | quote }} { capabilities = [{{ range $n, $one := get $rules $path }}{{ if $n }}, {{ end }}{{ quote $one }}{{ end }}] }
{{- end }}
{{- end -}}

{{/* list root rules: what rotating needs beside reading, put into rules. */}}
{{- define "broker.policy.rotation" -}}
{{- $root := index . 0 -}}{{- $rules := index . 1 -}}
{{- $state := $root.Values.rotation.state -}}{{- $changes := list "create" "read" "update" -}}
{{- range $name, $credential := $root.Values.credentials -}}
{{- if $credential.rotation -}}
{{- $source := $credential.source -}}{{- $driver := $credential.rotation.driver -}}
{{- $_ := set $rules (printf "%s/data/%s/rotation/%s" $state.mount $state.prefix $name) $changes -}}
{{- if eq $driver.kind "vault_role" -}}
{{- $_ := set $rules (regexReplaceAll "/static-creds/([^/]+)$" $source.path "/rotate-role/${1}") (list "update") -}}
{{- else -}}
{{- $_ := set $rules (printf "%s/destroy/%s/rotation/%s" $state.mount $state.prefix $name) (list "update") -}}
{{- $_ := set $rules (printf "%s/data/%s" $source.mount $source.path) $changes -}}
{{- $_ := set $rules (printf "%s/delete/%s" $source.mount $source.path) (list "update") -}}
{{- end -}}
{{- if eq $driver.kind "generated" -}}
{{- $_ := set $rules (printf "%s/data/%s" $driver.mount $driver.path) $changes -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
