{{/* Contradictions about the servers: images, names, credentials, uids, proofs, ports. */}}
{{- define "broker.checks.servers" -}}
{{- $uids := dict -}}{{- $labels := dict -}}{{- $ports := dict (toString (int .Values.listeners.operationsPort)) "listeners.operationsPort" -}}
{{- range .Values.listeners.tcp -}}{{- $_ := set $ports (last (splitList ":" .)) "listeners.tcp" -}}{{- end -}}
{{- range $name, $server := .Values.servers -}}
{{- if and $.Values.deployment.create (not $server.image) -}}
{{- fail (printf "servers.%s.image is missing: set it to the image of your MCP server, or deployment.create to false when a chart of yours runs it." $name) -}}
{{- end -}}
{{- if eq $name "broker" -}}
{{- fail "servers.broker: the broker's own container has that name; choose another." -}}
{{- end -}}
{{- range default list $server.credentials -}}
{{- if not (hasKey $.Values.credentials .) -}}
{{- fail (printf "servers.%s.credentials names %s, which credentials does not have." $name .) -}}
{{- end -}}
{{- end -}}
{{- include "broker.checks.literals" (list (printf "servers.%s.env" $name) $server.env) -}}
{{- $uid := include "broker.serverUid" $server -}}
{{- if and (not $.Values.security.openshift) (eq $uid (toString (int64 $.Values.broker.uid))) -}}
{{- fail (printf "servers.%s.uid is the broker's own (%s): give the server another." $name $uid) -}}
{{- end -}}
{{- if ne (default "token" $server.proof) "token" -}}
{{- if $.Values.security.openshift -}}
{{- fail (printf "servers.%s.proof %s needs a known uid, which OpenShift assigns: use token." $name $server.proof) -}}
{{- end -}}
{{- if not $.Values.listeners.unix -}}
{{- fail (printf "servers.%s.proof %s needs the server's socket: set listeners.unix to true, or use token." $name $server.proof) -}}
{{- end -}}
{{- end -}}
{{- with get $uids $uid -}}
{{- if or (ne (default "token" $server.proof) "token") (ne (default "token" (get $.Values.servers .).proof) "token") -}}
{{- fail (printf "servers.%s and servers.%s have the uid %s, which is to prove who is who: give each its own." . $name $uid) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $uids $uid $name -}}
{{- range $label, $port := default dict $server.ports -}}
{{- with get $ports (toString (int $port)) -}}
{{- fail (printf "servers.%s.ports.%s is %d, which %s has: the containers of a pod share their ports." $name $label (int $port) .) -}}
{{- end -}}
{{- with get $labels $label -}}
{{- fail (printf "servers.%s.ports.%s: servers.%s has a port of that name too; names are unique in a pod." $name $label .) -}}
{{- end -}}
{{- $_ := set $ports (toString (int $port)) (printf "servers.%s" $name) -}}
{{- $_ := set $labels $label $name -}}
{{- end -}}
{{- end -}}
{{- end -}}
