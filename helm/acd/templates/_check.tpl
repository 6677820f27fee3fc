{{/* Checks that a schema cannot express. Each message names the value, then the fix. */}}

{{- define "acd.check" -}}
{{- include "acd.check.image" . -}}
{{- include "acd.check.store" . -}}
{{- include "acd.check.artifacts" . -}}
{{- include "acd.check.geocube" . -}}
{{- include "acd.check.ingester" . -}}
{{- include "acd.check.env" . -}}
{{- include "acd.check.network" . -}}
{{- $templates := include "acd.templates" . | fromJson -}}
{{- include "acd.check.resources" . -}}
{{- include "acd.check.timezones" . -}}
{{- include "acd.check.schedules" (dict "owner" "tidy" "schedules" .Values.tidy.schedules) -}}
{{- include "acd.check.monitors" (dict "root" . "templates" $templates) -}}
{{- end }}

{{- define "acd.check.image" -}}
{{- with .Values.image -}}
{{- if not .repository -}}
{{- fail "image.repository is empty. Set it to where you pushed the image, such as registry.example.com/acdtask." -}}
{{- end -}}
{{- if and (eq .tag "latest") (not .digest) -}}
{{- fail "image.tag is latest, so pods of one workflow could run different code. Set a version or image.digest." -}}
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
{{- if and $store.existingSecret.name (eq $store.existingSecret.accessKeyIdKey $store.existingSecret.secretAccessKeyKey) -}}
{{- fail "objectStore.existingSecret uses the same key for the access key id and the secret access key. Set two different keys." -}}
{{- end -}}
{{- if and $store.existingSecret.name $store.workloadIdentity -}}
{{- fail "objectStore has both existingSecret.name and workloadIdentity, but only one can be used. Remove one of them." -}}
{{- end -}}
{{- if and $store.workloadIdentity $account.create (not $account.annotations) -}}
{{- fail "objectStore.workloadIdentity is true, but serviceAccount.annotations names no identity. Add the annotation of your cloud, or set serviceAccount.create to false and serviceAccount.name to an account that has an identity." -}}
{{- end -}}
{{- end }}

{{- define "acd.check.artifacts" -}}
{{- $artifacts := .Values.artifacts -}}
{{- $store := .Values.objectStore -}}
{{- if and $artifacts.create (has $artifacts.bucket (list "" $store.bucket)) $store.prefix (eq $artifacts.prefix $store.prefix) -}}
{{- fail "artifacts.prefix and objectStore.prefix are the same, in the same bucket. Set another prefix for the artifacts." -}}
{{- end -}}
{{- end }}

{{- define "acd.check.geocube" -}}
{{- with .Values.geocube -}}
{{- range $name, $given := dict "existingSecret.name" .existingSecret.name "caConfigMap.name" .caConfigMap.name "caSecret.name" .caSecret.name "downloader" .downloader -}}
{{- if and $given (not $.Values.geocube.address) -}}
{{- fail (printf "geocube.%s is set, but geocube.address is empty. Set it to the Geocube's address, or remove both." $name) -}}
{{- end -}}
{{- end -}}
{{- if and .caConfigMap.name .caSecret.name -}}
{{- fail "geocube has both caConfigMap.name and caSecret.name. Remove one of them." -}}
{{- end -}}
{{- if and .existingSecret.name (hasPrefix "geocube://" .address) (not .insecure) -}}
{{- fail "geocube.address is geocube://, without TLS, so others on the network could read the key. Use geocubes://, or set geocube.insecure to true." -}}
{{- end -}}
{{- if and (or .caConfigMap.name .caSecret.name) (hasPrefix "geocube://" .address) -}}
{{- fail (printf "geocube has CA certificates, but geocube.address is %s, without TLS. Use geocubes://, or remove the certificates." .address) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "acd.check.ingester" -}}
{{- with .Values.ingester -}}
{{- if and .existingSecret.name (not .address) -}}
{{- fail "ingester.existingSecret.name is set, but ingester.address is empty. Set it to the ingester's address, or remove both." -}}
{{- end -}}
{{- if and .existingSecret.name (hasPrefix "http://" .address) (not .insecure) -}}
{{- fail "ingester.address is http://, so others on the network could read the token. Use https://, or set ingester.insecure to true." -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* An approximate size in bytes, for comparisons. */}}
{{- define "acd.bytes" -}}
{{- $units := dict "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 -}}
{{- mulf (regexFind "^[0-9.]+" . | float64) (index $units (regexFind "[A-Za-z]+$" .)) -}}
{{- end }}

{{- define "acd.check.resources" -}}
{{- range $stage := list "plan" "gather" -}}
{{- $resources := index $.Values.resources $stage -}}
{{- $asked := ($resources.requests).memory -}}
{{- $limit := ($resources.limits).memory -}}
{{- if and $asked $limit -}}
{{- if gt (include "acd.bytes" $asked | float64) (include "acd.bytes" $limit | float64) -}}
{{- fail (printf "resources.%s.requests.memory is %s, more than the limit %s. Set resources.%s.limits.memory too." $stage $asked $limit $stage) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Helm treats unknown zones as UTC. On a system without time zone data, nothing can be checked. */}}
{{- define "acd.check.timezones" -}}
{{- $day := toDate "2006-01-02" "2020-07-01" -}}
{{- if ne (dateInZone "MST" $day "Europe/Berlin") "UTC" -}}
{{- $zones := dict "monitorDefaults.timezone" .Values.monitorDefaults.timezone "tidy.timezone" .Values.tidy.timezone -}}
{{- range .Values.monitors }}{{ if .timezone }}{{ $_ := set $zones (printf "the timezone of monitor %s" .name) .timezone }}{{ end }}{{ end -}}
{{- range $name, $zone := $zones -}}
{{- if and (eq (dateInZone "MST" $day $zone) "UTC") (not (regexMatch "^(Etc/)?(UTC|UCT|Universal|Zulu)$" $zone)) -}}
{{- fail (printf "%s is %s, which is not in the tz database. Use a zone such as UTC or Europe/Berlin." $name $zone) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "acd.check.env" -}}
{{- range $name, $_ := .Values.extraEnv -}}
{{- if has $name (list "ACD_CUBE" "ACD_RUN_ID" "ACD_LOG" "ACD_WEBHOOK_AUTHORIZATION" "ACD_GEOCUBE_ADDRESS" "ACD_GEOCUBE_KEY" "ACD_GEOCUBE_INSECURE_KEY" "ACD_GEOCUBE_CA_FILE" "ACD_GEOCUBE_DOWNLOADER" "ACD_INGESTER_ADDRESS" "ACD_INGESTER_TOKEN" "ACD_INGESTER_INSECURE" "AWS_ENDPOINT_URL" "AWS_REGION" "AWS_DEFAULT_REGION" "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" "AWS_SESSION_TOKEN") -}}
{{- fail (printf "extraEnv has %s, which the chart sets itself. Use the values of objectStore, geocube, ingester and webhook instead." $name) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* "yes" if there is a network policy: by default, as soon as one of its places is given. */}}
{{- define "acd.hasNetworkPolicy" -}}
{{- $network := .Values.networkPolicy -}}
{{- if eq (toString $network.enabled) "auto" -}}
{{- range omit $network "enabled" "dns" | values }}{{ if or .cidrs .namespaces }}yes{{ end }}{{ end -}}
{{- else if $network.enabled }}yes{{ end -}}
{{- end }}

{{- define "acd.check.network" -}}
{{- if include "acd.hasNetworkPolicy" . -}}
{{- $needed := dict "objectStore" true "apiServer" true "geocube" .Values.geocube.address "downloader" .Values.geocube.downloader "ingester" .Values.ingester.address "webhook" .Values.webhook.url -}}
{{- range $name, $used := $needed -}}
{{- $place := index $.Values.networkPolicy $name -}}
{{- if and $used (not (or $place.cidrs $place.namespaces)) -}}
{{- fail (printf "networkPolicy.%s has neither cidrs nor namespaces, so pods could not reach it. Set one of them, or set networkPolicy.enabled to false." $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "acd.check.monitors" -}}
{{- $of := dict "name" "(any, by monitorDefaults)" -}}
{{- if not .root.Values.monitors }}{{ include "acd.check.settings" (dict "monitor" $of "root" .root "templates" .templates) }}{{ end -}}
{{- $seen := dict -}}
{{- $areas := dict -}}
{{- $watches := dict -}}
{{- range $monitor := .root.Values.monitors -}}
{{- if hasKey $seen .name -}}
{{- fail (printf "Two monitors are named %s. Give each its own name, since schedules and AOIs are named after it." .name) -}}
{{- end -}}
{{- if eq .name "tidy" -}}
{{- fail "A monitor is named tidy, like the chart's own schedule acd-tidy. Give the monitor another name." -}}
{{- end -}}
{{- $_ := set $seen .name true -}}
{{- include "acd.check.schedules" . -}}
{{- include "acd.check.aoi" . -}}
{{- if .aoi -}}
{{- $aoi := kindIs "string" .aoi | ternary (fromJson (toString .aoi)) .aoi -}}
{{- with index $areas $aoi.name -}}
{{- fail (printf "Monitors %s and %s both define an AOI named %s, but results are stored under that name. Rename one of the AOIs, or use aoiFrom.configMap: acd-aoi-%s in one monitor." . $monitor.name $aoi.name .) -}}
{{- end -}}
{{- $_ := set $areas $aoi.name .name -}}
{{- end -}}
{{- include "acd.check.settings" (dict "monitor" . "root" $.root "templates" $.templates) -}}
{{- $template := .template | default $.root.Values.monitorDefaults.template -}}
{{- if has $template (list "acd-all" "acd-monitor") -}}
{{- $settings := include "acd.settings" (dict "monitor" . "root" $.root) | fromJson -}}
{{- $result := index $settings (eq $template "acd-all" | ternary "monitor-name" "name") | default "monitor" -}}
{{- $images := pick $settings "layout" "variable" "instance" "tags" "track" "pair-days" "baseline-tags" "baseline-track" "baseline-pair-days" "monitor-tags" "monitor-track" "monitor-pair-days" -}}
{{- $watch := printf "%s %s %s" (include "acd.aoiName" .) $result (toJson $images) -}}
{{- with index $watches $watch -}}
{{- fail (printf "Monitors %s and %s watch the same images under the same result name %s, so each would replace the other's results, and only the first would announce a patch. Set another %s in one of them." . $monitor.name $result (eq $template "acd-all" | ternary "monitor-name" "name")) -}}
{{- end -}}
{{- $_ := set $watches $watch .name -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Checks of schedules that a pattern cannot express: ranges that end before they begin, days that no month has. */}}
{{- define "acd.check.schedules" -}}
{{- $owner := .owner | default (printf "Monitor %s" .name) -}}
{{- $order := dict -}}
{{- range $names := list "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC" "SUN MON TUE WED THU FRI SAT" -}}
{{- range $at, $name := splitList " " $names }}{{ $_ := set $order $name (add $at (len $names | eq 47 | ternary 1 0)) }}{{ end -}}
{{- end -}}
{{- range $schedule := .schedules -}}
{{- $fields := regexSplit " +" (upper $schedule) -1 -}}
{{- range $field := $fields -}}
{{- range $part := splitList "," $field -}}
{{- $ends := splitList "-" (regexReplaceAll "/.*" $part "") -}}
{{- if eq (len $ends) 2 -}}
{{- $from := index $order (first $ends) | default (first $ends) | int -}}
{{- $to := index $order (last $ends) | default (last $ends) | int -}}
{{- if gt $from $to -}}
{{- fail (printf "%s has the schedule %q, whose range %s ends before it begins. Split it, such as 22-23,0-5." $owner $schedule $part) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if eq (len $fields) 5 -}}
{{- $month := index $order (index $fields 3) | default (index $fields 3) | toString -}}
{{- $never := or (and (has (index $fields 2) (list "30" "31")) (has $month (list "2" "02"))) (and (eq (index $fields 2) "31") (has $month (list "4" "04" "6" "06" "9" "09" "11"))) -}}
{{- if and $never (has (index $fields 4) (list "*" "?")) -}}
{{- fail (printf "%s has the schedule %q, which never occurs. Use a day that the month has." $owner $schedule) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* One word for each polygon of a GeoJSON object. */}}
{{- define "acd.polygons" -}}
{{- if kindIs "map" . -}}
{{- if eq .type "FeatureCollection" }}{{ range .features }}{{ include "acd.polygons" . }}{{ end -}}
{{- else if eq .type "GeometryCollection" }}{{ range .geometries }}{{ include "acd.polygons" . }}{{ end -}}
{{- else if eq .type "Feature" }}{{ include "acd.polygons" .geometry -}}
{{- else if and (has .type (list "Polygon" "MultiPolygon")) .coordinates }}polygon {{ end -}}
{{- end -}}
{{- end }}

{{- define "acd.check.aoi" -}}
{{- if and .aoi .aoiFrom -}}
{{- fail (printf "Monitor %s has both aoi and aoiFrom. Remove one of them." .name) -}}
{{- end -}}
{{- if not (or .aoi .aoiFrom) -}}
{{- fail (printf "Monitor %s has no area. Set aoi (the AOI itself) or aoiFrom.configMap (a ConfigMap with the AOI)." .name) -}}
{{- end -}}
{{- if gt (len (toJson .aoi)) 1000000 -}}
{{- fail (printf "Monitor %s has an aoi of more than 1000000 bytes, the limit of a ConfigMap. Simplify the polygon." .name) -}}
{{- end -}}
{{- if kindIs "string" .aoi -}}
{{- $aoi := fromJson .aoi -}}
{{- if or $aoi.Error (not $aoi.name) -}}
{{- fail (printf "Monitor %s has an aoi that is not GeoJSON with a name. Give JSON with type and name, and optionally start_time and end_time." .name) -}}
{{- end -}}
{{- end -}}
{{- with .aoi -}}
{{- $aoi := kindIs "string" . | ternary (fromJson (toString .)) . -}}
{{- if not (regexMatch "^[a-zA-Z0-9:_-]+(/[a-zA-Z0-9:_-]+)*$" (toString $aoi.name)) -}}
{{- fail (printf "Monitor %s has an aoi named %q. Use letters, digits, '-', ':' and '_', with '/' between parts." $.name $aoi.name) -}}
{{- end -}}
{{- range $key := list "start_time" "end_time" -}}
{{- if and (hasKey $aoi $key) (not (regexMatch "^[0-9]{4}-[01][0-9]-[0-3][0-9]([T ][0-9:.]+(Z|[+-][0-9:]+)?)?$" (index $aoi $key | toString))) -}}
{{- fail (printf "Monitor %s has an aoi whose %s is %v. Write it as 2021-01-07T00:00:00Z." $.name $key (index $aoi $key)) -}}
{{- end -}}
{{- end -}}
{{- if and $aoi.start_time $aoi.end_time (lt (substr 0 10 (toString $aoi.end_time)) (substr 0 10 (toString $aoi.start_time))) -}}
{{- fail (printf "Monitor %s has an aoi that ends before it starts. Set end_time after start_time." $.name) -}}
{{- end -}}
{{- if not (include "acd.polygons" $aoi) -}}
{{- fail (printf "Monitor %s has an aoi without a polygon. Give GeoJSON: a Feature with a geometry, or a Polygon." $.name) -}}
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
{{- $settings := include "acd.settings" . | fromJson -}}
{{- range $key, $text := $settings -}}
{{- if has $key (list "aoi" "event-monitor" "webhook") -}}
{{- fail (printf "Monitor %s has the setting %s, which the chart sets itself. Use the monitor's aoi or aoiFrom, its name, and webhook.url." $.monitor.name $key) -}}
{{- end -}}
{{- if not (hasKey $known $key) -}}
{{- fail (printf "Monitor %s has the setting %s, which %s does not have. It has: %s." $.monitor.name $key $name (keys $known | sortAlpha | join ", ")) -}}
{{- end -}}
{{- end -}}
{{- if .monitor.schedules -}}
{{- range $key, $parameter := omit $known "aoi" -}}
{{- if and (hasSuffix "(required)" $parameter.description) (not (index $settings $key | default "" | trim)) -}}
{{- fail (printf "Monitor %s has no %s. Set it in the settings of the monitor, or in monitorDefaults.settings." $.monitor.name $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}
