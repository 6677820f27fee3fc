{{/* What a schema cannot say. Each sentence names the value, and then the fix. */}}

{{- define "acd.check" -}}
{{- include "acd.check.image" . -}}
{{- include "acd.check.store" . -}}
{{- include "acd.check.env" . -}}
{{- include "acd.check.network" . -}}
{{- $templates := include "acd.templates" . | fromJson -}}
{{- include "acd.check.webhook" (dict "url" .Values.webhook.url "templates" $templates) -}}
{{- include "acd.check.monitors" (dict "root" . "templates" $templates) -}}
{{- end }}

{{- define "acd.check.image" -}}
{{- with .Values.image -}}
{{- if not .repository -}}
{{- fail "image.repository is empty. Set it to where you pushed the image, such as registry.example.com/acdtask." -}}
{{- end -}}
{{- if and (eq .tag "latest") (not .digest) -}}
{{- fail "image.tag is latest, so pods of one workflow could run different code. Set a version, or image.digest." -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "acd.check.store" -}}
{{- $store := .Values.objectStore -}}
{{- $account := .Values.serviceAccount -}}
{{- if not $store.bucket -}}
{{- fail "objectStore.bucket is empty. Set it to the name of the bucket that holds the cube." -}}
{{- end -}}
{{- if and (not $store.existingSecret.name) (not $store.workloadIdentity) -}}
{{- fail "The pods have no credentials. Set objectStore.existingSecret.name to a secret with keys, or objectStore.workloadIdentity to true." -}}
{{- end -}}
{{- if and $store.existingSecret.name $store.workloadIdentity -}}
{{- fail "objectStore has both existingSecret.name and workloadIdentity, and keys would win over the identity. Leave one of them out." -}}
{{- end -}}
{{- if and $store.workloadIdentity $account.create (not $account.annotations) -}}
{{- fail "objectStore.workloadIdentity is true and serviceAccount.annotations names no identity. Add the annotation of your cloud, or set serviceAccount.create to false and serviceAccount.name to an account that has an identity." -}}
{{- end -}}
{{- end }}

{{- define "acd.check.env" -}}
{{- range $name, $_ := .Values.extraEnv -}}
{{- if has $name (list "ACD_CUBE" "ACD_RUN_ID" "ACD_LOG" "AWS_ENDPOINT_URL" "AWS_REGION" "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" "AWS_SESSION_TOKEN") -}}
{{- fail (printf "extraEnv has %s, which the chart sets itself. Use the values of objectStore, and leave it out here." $name) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "acd.check.network" -}}
{{- $network := .Values.networkPolicy -}}
{{- if $network.enabled -}}
{{- $needed := list "objectStore" "apiServer" -}}
{{- if .Values.webhook.url }}{{ $needed = append $needed "webhook" }}{{ end -}}
{{- range $needed -}}
{{- $place := index $network . -}}
{{- if not (or $place.cidrs $place.namespaces) -}}
{{- fail (printf "networkPolicy.%s has no cidrs and no namespaces, so pods could not reach it. Name its addresses, or set networkPolicy.enabled to false." .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "acd.check.webhook" -}}
{{- if .url -}}
{{- $posts := false -}}
{{- range .templates -}}
{{- range ((.spec).arguments).parameters }}{{ if eq .name "webhook" }}{{ $posts = true }}{{ end }}{{ end -}}
{{- end -}}
{{- if not $posts -}}
{{- fail "webhook.url is set, and no template of this version posts anything. Leave it empty." -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "acd.check.monitors" -}}
{{- $seen := dict -}}
{{- $areas := dict -}}
{{- range $monitor := .root.Values.monitors -}}
{{- if hasKey $seen .name -}}
{{- fail (printf "Two monitors are named %s. Give each its own name: schedules and AOIs are kept by it." .name) -}}
{{- end -}}
{{- $_ := set $seen .name true -}}
{{- include "acd.check.aoi" . -}}
{{- if .aoi -}}
{{- $aoi := kindIs "string" .aoi | ternary (fromJson (toString .aoi)) .aoi -}}
{{- with index $areas $aoi.name -}}
{{- fail (printf "Monitors %s and %s both bring an AOI named %s, and results are kept by that name. Rename one of the AOIs, or use aoiFrom.configMap: acd-aoi-%s in one monitor." . $monitor.name $aoi.name .) -}}
{{- end -}}
{{- $_ := set $areas $aoi.name .name -}}
{{- end -}}
{{- include "acd.check.settings" (dict "monitor" . "root" $.root "templates" $.templates) -}}
{{- end -}}
{{- end }}

{{- define "acd.check.aoi" -}}
{{- if and .aoi .aoiFrom -}}
{{- fail (printf "Monitor %s has both aoi and aoiFrom. Leave one of them out." .name) -}}
{{- end -}}
{{- if not (or .aoi .aoiFrom) -}}
{{- fail (printf "Monitor %s has no area. Give it aoi (the AOI itself), or aoiFrom.configMap (a ConfigMap that has it)." .name) -}}
{{- end -}}
{{- if gt (len (toJson .aoi)) 1000000 -}}
{{- fail (printf "Monitor %s has an aoi of more than 1000000 bytes, and a ConfigMap holds no more. Simplify the polygon." .name) -}}
{{- end -}}
{{- if kindIs "string" .aoi -}}
{{- $aoi := fromJson .aoi -}}
{{- if or $aoi.Error (not $aoi.name) (not $aoi.start_time) (not $aoi.end_time) -}}
{{- fail (printf "Monitor %s has an aoi that is no Geocube ingester payload. Give JSON with name, geometry, start_time and end_time." .name) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "acd.check.settings" -}}
{{- $defaults := .root.Values.monitorDefaults -}}
{{- $name := .monitor.template | default $defaults.template -}}
{{- $template := index .templates $name -}}
{{- if not $template -}}
{{- fail (printf "Monitor %s uses the template %s, which this chart does not have. Use another template." .monitor.name $name) -}}
{{- end -}}
{{- $known := dict -}}
{{- range ((($template).spec).arguments).parameters }}{{ $_ := set $known .name . }}{{ end -}}
{{- range $key, $text := include "acd.settings" . | fromJson -}}
{{- if has $key (list "aoi" "webhook") -}}
{{- fail (printf "Monitor %s has the setting %s, which the chart sets itself. Use the monitor's aoi or aoiFrom, and webhook.url." $.monitor.name $key) -}}
{{- end -}}
{{- if not (hasKey $known $key) -}}
{{- fail (printf "Monitor %s has the setting %s, which %s does not have. It has: %s." $.monitor.name $key $name (keys $known | sortAlpha | join ", ")) -}}
{{- end -}}
{{- $allowed := (index $known $key).enum -}}
{{- if and $allowed (not (has $text $allowed)) -}}
{{- fail (printf "Monitor %s sets %s to %s. Use one of: %s." $.monitor.name $key $text (compact $allowed | join ", ")) -}}
{{- end -}}
{{- end -}}
{{- end }}
