{{- define "gateway.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 54 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 54 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "gateway.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "gateway.labels" -}}
{{ include "gateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "gateway.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "gateway.hasClientCa" -}}
{{- if or .Values.tls.clientCa.existingSecret .Values.tls.clientCa.existingConfigMap }}true{{ end }}
{{- end }}

{{- /* The configuration file: the values, and the settings that the chart decides. */ -}}
{{- define "gateway.config" -}}
{{- $config := dict }}
{{- /* Numbers of values are floating, which the gateway refuses. */}}
{{- range $key, $value := .Values.config }}
{{- $_ := set $config $key (kindIs "float64" $value | ternary (int64 $value) $value) }}
{{- end }}
{{- $_ := set $config "listen" (printf "0.0.0.0:%d" (int .Values.service.port)) }}
{{- $_ := set $config "admin_listen" "0.0.0.0:9464" }}
{{- $_ := set $config "log_format" ($config.log_format | default "json") }}
{{- $_ := set $config "drain_delay" (printf "%ds" (int .Values.drain.delay)) }}
{{- $_ := set $config "drain_timeout" (printf "%ds" (int .Values.drain.timeout)) }}
{{- if .Values.tls.existingSecret }}
{{- $_ := set $config "tls_certificate" "/etc/apig-grpc-gateway/tls/tls.crt" }}
{{- $_ := set $config "tls_key" "/etc/apig-grpc-gateway/tls/tls.key" }}
{{- end }}
{{- if include "gateway.hasClientCa" . }}
{{- $_ := set $config "tls_client_ca" (printf "/etc/apig-grpc-gateway/client-ca/%s" .Values.tls.clientCa.key) }}
{{- end }}
{{- with .Values.identities }}{{ $_ := set $config "identities" . }}{{ end }}
{{- with .Values.policy }}{{ $_ := set $config "policy" . }}{{ end }}
{{- toToml $config }}
{{- end }}

{{- /* The kubelet's gRPC probes know no TLS: with it, the same states come from the admin port. */ -}}
{{- define "gateway.probe" -}}
{{- if .root.Values.tls.existingSecret -}}
httpGet: { path: {{ .path }}, port: admin }
{{- else -}}
grpc: { port: {{ .root.Values.service.port }}, service: {{ .service }} }
{{- end }}
{{- end }}
