{{- define "troupe.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "troupe.selector" -}}
app.kubernetes.io/name: troupe
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "troupe.labels" -}}
{{ include "troupe.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "troupe.join" -}}
{{- $name := include "troupe.name" . -}}
{{- $nodes := list -}}
{{- range $at := until (int .Values.bootstrapExpect) -}}
{{- $nodes = append $nodes (printf "%s-%d.%s-peers.%s.svc:8082" $name $at $name $.Release.Namespace) -}}
{{- end -}}
{{- join "," $nodes -}}
{{- end }}
