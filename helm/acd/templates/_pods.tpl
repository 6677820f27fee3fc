{{/* What the chart's own pods have in common: a pod's fields, and a container's. */}}

{{- define "acd.pod" -}}
restartPolicy: Never
# A workload identity has its own token, and these pods never call the API server.
automountServiceAccountToken: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.scheduling }}
{{- with pick . "nodeSelector" "tolerations" "affinity" "priorityClassName" }}
{{- range $name, $value := . }}
{{- if $value }}
{{ dict $name $value | toYaml }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "acd.container" -}}
image: {{ include "acd.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
command: ["acdtask"]
resources:
  {{- toYaml .Values.resources.plan | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- end }}

{{/* The arguments of `acdtask check` for all monitors, as a list. Kubernetes replaces $(NAME) in arguments, and $$ by $. */}}
{{- define "acd.checkArgs" -}}
- check
{{- range .Values.monitors }}
{{- $template := .template | default $.Values.monitorDefaults.template }}
{{- $aoi := printf "/etc/acd/areas/%s/aoi.json" (include "acd.aoiName" .) }}
{{- $settings := include "acd.settings" (dict "monitor" . "root" $) | fromJson }}
- --monitor
- {{ dict "name" .name "template" $template "aoi" $aoi "settings" $settings | toJson | replace "$" "$$" | quote }}
{{- end }}
{{- end }}

{{/* The volume with the AOIs of all monitors, as a list. `own` is the prefix of the ConfigMaps of AOIs in the values. */}}
{{- define "acd.areas" -}}
{{- $configMaps := dict -}}
{{- range .root.Values.monitors }}{{ $_ := set $configMaps (include "acd.aoiName" .) (printf "acd-aoi-%s" (include "acd.aoiName" .)) }}{{ end -}}
{{- range .root.Values.monitors }}{{ if .aoi }}{{ $_ := set $configMaps .name (printf "%s%s" $.own .name) }}{{ end }}{{ end -}}
- name: areas
  projected:
    sources:
      {{- range $area, $configMap := $configMaps }}
      - configMap: { name: {{ $configMap }}, optional: true, items: [{ key: aoi.json, path: {{ $area }}/aoi.json }] }
      {{- end }}
{{- end }}

{{- define "acd.aoiText" -}}
{{ kindIs "string" .aoi | ternary .aoi (toJson .aoi) }}
{{- end }}
