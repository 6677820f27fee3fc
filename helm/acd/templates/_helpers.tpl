{{/* Names do not depend on the release, so that `argo submit --from workflowtemplate/acd-monitor` always works. */}}

{{- define "acd.selectorLabels" -}}
app.kubernetes.io/name: acd
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "acd.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "acd.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "acd.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "acd.cube" -}}
s3://{{ .Values.objectStore.bucket }}{{ with .Values.objectStore.prefix }}/{{ . }}{{ end }}
{{- end }}

{{/* Environment variables of a container that uses the cube, as a list. */}}
{{- define "acd.env" -}}
{{- $store := .Values.objectStore -}}
- name: ACD_CUBE
  value: {{ include "acd.cube" . | quote }}
{{- with $store.endpoint }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
{{- with $store.region }}
- name: AWS_REGION
  value: {{ . | quote }}
{{- end }}
{{- with $store.existingSecret }}
{{- if .name }}
- name: AWS_ACCESS_KEY_ID
  valueFrom: { secretKeyRef: { name: {{ .name | quote }}, key: {{ .accessKeyIdKey | quote }} } }
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: { secretKeyRef: { name: {{ .name | quote }}, key: {{ .secretAccessKeyKey | quote }} } }
{{- with .sessionTokenKey }}
- name: AWS_SESSION_TOKEN
  valueFrom: { secretKeyRef: { name: {{ $store.existingSecret.name | quote }}, key: {{ . | quote }} } }
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.geocube }}
{{- if .address }}
- name: ACD_GEOCUBE_ADDRESS
  value: {{ .address | quote }}
{{- end }}
{{- if .existingSecret.name }}
- name: ACD_GEOCUBE_KEY
  valueFrom: { secretKeyRef: { name: {{ .existingSecret.name | quote }}, key: {{ .existingSecret.key | quote }} } }
{{- end }}
{{- if .insecure }}
- name: ACD_GEOCUBE_INSECURE_KEY
  value: "1"
{{- end }}
{{- if or .caConfigMap.name .caSecret.name }}
- name: ACD_GEOCUBE_CA_FILE
  value: {{ include "acd.geocubeCaFolder" . }}/ca.crt
{{- end }}
{{- with .downloader }}
- name: ACD_GEOCUBE_DOWNLOADER
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- with .Values.ingester }}
{{- if .address }}
- name: ACD_INGESTER_ADDRESS
  value: {{ .address | quote }}
{{- end }}
{{- if .existingSecret.name }}
- name: ACD_INGESTER_TOKEN
  valueFrom: { secretKeyRef: { name: {{ .existingSecret.name | quote }}, key: {{ .existingSecret.key | quote }} } }
{{- end }}
{{- if .insecure }}
- name: ACD_INGESTER_INSECURE
  value: "1"
{{- end }}
{{- end }}
{{- range $name, $value := .Values.extraEnv }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- define "acd.geocubeCaFolder" -}}
/etc/acd/geocube
{{- end }}

{{/* The volume with the CA certificates, and below its mount, as lists; empty without certificates. */}}
{{- define "acd.geocubeVolumes" -}}
{{- with .Values.geocube -}}
{{- if .caConfigMap.name -}}
- { name: geocube-ca, configMap: { name: {{ .caConfigMap.name | quote }}, items: [{ key: {{ .caConfigMap.key | quote }}, path: ca.crt }] } }
{{- else if .caSecret.name -}}
- { name: geocube-ca, secret: { secretName: {{ .caSecret.name | quote }}, items: [{ key: {{ .caSecret.key | quote }}, path: ca.crt }] } }
{{- else -}}
[]
{{- end -}}
{{- end -}}
{{- end }}

{{- define "acd.geocubeMounts" -}}
{{- if or .Values.geocube.caConfigMap.name .Values.geocube.caSecret.name -}}
- { name: geocube-ca, mountPath: {{ include "acd.geocubeCaFolder" . }}, readOnly: true }
{{- else -}}
[]
{{- end -}}
{{- end }}

{{/* Additional environment variables of the pod that posts to the webhook, as a list. */}}
{{- define "acd.webhookEnv" -}}
{{- with .Values.webhook.existingSecret -}}
{{- if .name -}}
- name: ACD_WEBHOOK_AUTHORIZATION
  valueFrom: { secretKeyRef: { name: {{ .name | quote }}, key: {{ .key | quote }} } }
{{- else -}}
[]
{{- end -}}
{{- end -}}
{{- end }}

{{/* A parameter as text. Helm reads numbers as floating point, and would write a million as 1e+06. */}}
{{- define "acd.text" -}}
{{- if kindIs "string" . }}{{ . }}{{ else if kindIs "bool" . }}{{ ternary "yes" "no" . }}{{ else }}{{ toJson . }}{{ end -}}
{{- end }}

{{/*
Settings keyed by a template's parameters, as JSON. Settings may be grouped by job as in acd.toml, such as
`baseline: {end: 2021-08-01}`, which is the parameter `baseline-end` of acd-all and `end` of acd-baseline.
*/}}
{{- define "acd.flat" -}}
{{- $flat := dict -}}
{{- $job := trimPrefix "acd-" .template -}}
{{- range $key, $value := .settings -}}
{{- if kindIs "map" $value -}}
{{- range $name, $text := $value -}}
{{- $alone := or (eq $key $job) (has $name (list "profile" "resampling")) -}}
{{- $_ := set $flat ($alone | ternary $name (printf "%s-%s" $key $name) | replace "_" "-") (include "acd.text" $text) -}}
{{- end -}}
{{- else -}}
{{- $_ := set $flat $key (include "acd.text" $value) -}}
{{- end -}}
{{- end -}}
{{- toJson $flat -}}
{{- end }}

{{/* The settings of a monitor, with defaults, as JSON. Not with `merge`, which treats 0 and false as missing. */}}
{{- define "acd.settings" -}}
{{- $defaults := .root.Values.monitorDefaults -}}
{{- $template := .monitor.template | default $defaults.template -}}
{{- $settings := dict -}}
{{- range list $defaults.settings .monitor.settings -}}
{{- range $key, $text := include "acd.flat" (dict "settings" . "template" $template) | fromJson }}{{ $_ := set $settings $key $text }}{{ end -}}
{{- end -}}
{{- toJson $settings -}}
{{- end }}

{{/*
The values of `monitorDefaults.settings` for the parameters of a template, as JSON. They are written for
`monitorDefaults.template`; a setting of one job is called `high` in acd-monitor and `monitor-high` in acd-all.
*/}}
{{- define "acd.defaults" -}}
{{- $defaults := .root.Values.monitorDefaults -}}
{{- $all := dict -}}
{{- range (index .templates "acd-all").spec.arguments.parameters }}{{ $_ := set $all .name true }}{{ end -}}
{{- $given := dict -}}
{{- range $key, $text := include "acd.flat" (dict "settings" $defaults.settings "template" $defaults.template) | fromJson -}}
{{- $long := printf "%s-%s" (trimPrefix "acd-" $defaults.template) $key -}}
{{- $_ := set $given (hasKey $all $long | ternary $long $key) $text -}}
{{- end -}}
{{- $found := dict -}}
{{- $job := index .template.metadata.labels "app.kubernetes.io/component" -}}
{{- $elsewhere := dict "ingest-make-layout" "layout" "report-name" "monitor-name" "monitor-transform" "baseline-transform" -}}
{{- range .template.spec.arguments.parameters -}}
{{- $long := printf "%s-%s" $job .name -}}
{{- $name := index $elsewhere $long | default (hasKey $all $long | ternary $long .name) -}}
{{- if and (hasKey $all $name) (hasKey $given $name) }}{{ $_ := set $found .name (index $given $name) }}{{ end -}}
{{- end -}}
{{- with .root.Values.monitors }}{{ $_ := set $found "aoi" (include "acd.aoiName" (index . 0)) }}{{ end -}}
{{- toJson $found -}}
{{- end }}

{{/* The name of a monitor's AOI: its ConfigMap's name without the prefix. */}}
{{- define "acd.aoiName" -}}
{{- with .aoiFrom }}{{ trimPrefix "acd-aoi-" .configMap }}{{ else }}{{ .name }}{{ end -}}
{{- end }}

{{/* A key of the artifact repository, below the prefix. */}}
{{- define "acd.artifactKey" -}}
{{- with .root.Values.artifacts.prefix }}{{ . }}/{{ end }}{{ .key -}}
{{- end }}

{{/* The resources of a container, by its arguments (job, stage, ...). Pods that plan may do work; other commands are small. */}}
{{- define "acd.resources" -}}
{{- $stage := "plan" -}}
{{- if ge (len .args) 2 }}{{ $stage = index .args 1 }}{{ end -}}
{{- if or (eq (first .args) "chain") (and (eq $stage "plan") (ge (len .args) 2)) }}{{ $stage = "here" }}{{ end -}}
{{- $resources := index .values $stage | default .values.plan | deepCopy -}}
{{- with $resources.memoryMiB -}}
{{- $memory := printf "%dMi" (int .) -}}
{{- range list "requests" "limits" -}}
{{- $quantities := index $resources . | default dict -}}
{{- $_ := set $quantities "memory" $memory -}}
{{- $_ := set $resources . $quantities -}}
{{- end -}}
{{- end -}}
{{- toYaml (omit $resources "memoryMiB") -}}
{{- end }}

{{/* The WorkflowTemplates by name, as JSON: each under its own name, and under this name with the version behind it. */}}
{{- define "acd.templates" -}}
{{- $found := dict -}}
{{- range $path, $_ := .Files.Glob "files/*.yaml" -}}
{{- $template := $.Files.Get $path | fromYaml -}}
{{- if $template.Error }}{{ fail (printf "%s is not YAML: %s" $path $template.Error) }}{{ end -}}
{{- $name := $template.metadata.name -}}
{{- $version := index $template.metadata.labels "app.kubernetes.io/version" | lower -}}
{{- $versioned := printf "%s-%s" $name (regexReplaceAll "[^a-z0-9]" $version "-") -}}
{{- $_ := set $found $name $template -}}
{{- $_ := set $found $versioned (merge (dict "metadata" (dict "name" $versioned)) (deepCopy $template)) -}}
{{- end -}}
{{- toJson $found -}}
{{- end }}

{{/*
A pod patch for Argo's own containers, which are not in the templates: their security context, and the token of the
service account, which is then mounted into them alone. Argo's executor.serviceAccountName would need a secret with a
token that never expires.
*/}}
{{- define "acd.executorPatch" -}}
{{- if .patch }}{{ fail (printf "%s already has a pod patch. Set executor.restricted and executor.tokenOnly to false." .name) }}{{ end -}}
{{- $own := dict -}}
{{- $patch := dict -}}
{{- if .executor.restricted -}}
{{- $_ := set $own "securityContext" (dict "allowPrivilegeEscalation" false "capabilities" (dict "drop" (list "ALL"))) -}}
{{- end -}}
{{- if .executor.tokenOnly -}}
{{- $_ := set $own "volumeMounts" (list (dict "name" "executor-token" "mountPath" "/var/run/secrets/kubernetes.io/serviceaccount" "readOnly" true)) -}}
{{- $token := dict "serviceAccountToken" (dict "path" "token" "expirationSeconds" 3600) -}}
{{- $ca := dict "configMap" (dict "name" "kube-root-ca.crt" "items" (list (dict "key" "ca.crt" "path" "ca.crt"))) -}}
{{- $namespace := dict "downwardAPI" (dict "items" (list (dict "path" "namespace" "fieldRef" (dict "fieldPath" "metadata.namespace")))) -}}
{{- $_ := set $patch "volumes" (list (dict "name" "executor-token" "projected" (dict "sources" (list $token $ca $namespace)))) -}}
{{- $_ := set $patch "automountServiceAccountToken" false -}}
{{- end -}}
{{- range $kind, $name := dict "initContainers" "init" "containers" "wait" -}}
{{- $_ := set $patch $kind (list (merge (dict "name" $name) $own)) -}}
{{- end -}}
{{- toJson $patch -}}
{{- end }}
