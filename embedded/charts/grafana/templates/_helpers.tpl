{{- define "grafana.selector" -}}
app.kubernetes.io/name: grafana
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "grafana.labels" -}}
{{ include "grafana.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: catamaran
{{- end -}}
{{- define "grafana.sizes" -}}
small: {requests: {cpu: 20m, memory: 192Mi}, limits: {cpu: 500m, memory: 768Mi}}
standard: {requests: {cpu: 100m, memory: 384Mi}, limits: {cpu: "1", memory: 1Gi}}
large: {requests: {cpu: 200m, memory: 512Mi}, limits: {cpu: "2", memory: 2Gi}}
{{- end -}}
{{- define "grafana.resources" -}}
{{- $size := get (include "grafana.sizes" . | fromYaml) .Values.size -}}
{{- range $kind := list "requests" "limits" }}
{{ $kind }}:
  {{- range $what := list "cpu" "memory" }}
  {{ $what }}: {{ get (get $.Values.resources $kind) $what | default (get (get $size $kind) $what) | quote }}
  {{- end }}
{{- end }}
{{- end -}}
{{- /*
A dashboard as Grafana's JSON, out of one of the files in dashboards/:

  title, logs (whether it asks Loki as well), panels: a list of
    title, type (stat, timeseries, table, logs), expr (text or a list of them), legend, unit, width (of 24), height,
    source (thanos or loki; default thanos), red (from this value on), stack

Panels flow from left to right, and a row begins where the next one does not fit.
*/ -}}
{{- define "grafana.dashboard" -}}
{{- $spec := .spec -}}
{{- $flow := dict "x" 0 "y" 0 "row" 0 -}}
{{- $panels := list -}}
{{- range $i, $p := $spec.panels -}}
  {{- $w := int ($p.width | default 12) -}}
  {{- $h := int ($p.height | default (ternary 4 8 (eq $p.type "stat"))) -}}
  {{- if gt (add $flow.x $w) 24 -}}
    {{- $_ := set $flow "y" (add $flow.y $flow.row) -}}
    {{- $_ := set $flow "x" 0 -}}
    {{- $_ := set $flow "row" 0 -}}
  {{- end -}}
  {{- $source := dict "type" (ternary "loki" "prometheus" (eq ($p.source | default "thanos") "loki")) "uid" ($p.source | default "thanos") -}}
  {{- $targets := list -}}
  {{- range $j, $expr := (kindIs "string" $p.expr | ternary (list $p.expr) $p.expr) -}}
    {{- $instant := or (eq $p.type "table") (eq $p.type "stat") -}}
    {{- $target := dict "refId" (printf "Q%d" $j) "expr" (trim $expr) "datasource" $source "legendFormat" ($p.legend | default "") -}}
    {{- if eq $source.type "loki" -}}
      {{- $_ := set $target "queryType" (ternary "instant" "range" $instant) -}}
    {{- else -}}
      {{- $_ := set $target "instant" $instant -}}
      {{- $_ := set $target "range" (not $instant) -}}
      {{- $_ := set $target "format" (ternary "table" "time_series" (eq $p.type "table")) -}}
    {{- end -}}
    {{- $targets = append $targets $target -}}
  {{- end -}}
  {{- $steps := list (dict "color" "green" "value" nil) -}}
  {{- if hasKey $p "red" -}}{{- $steps = append $steps (dict "color" "red" "value" $p.red) -}}{{- end -}}
  {{- $defaults := dict "unit" ($p.unit | default "short") "thresholds" (dict "mode" "absolute" "steps" $steps) "color" (dict "mode" (ternary "thresholds" "palette-classic" (eq $p.type "stat"))) -}}
  {{- if eq $p.type "timeseries" -}}
    {{- $_ := set $defaults "custom" (dict "fillOpacity" (ternary 40 5 ($p.stack | default false)) "stacking" (dict "mode" (ternary "normal" "none" ($p.stack | default false))) "showPoints" "never") -}}
  {{- end -}}
  {{- $options := dict -}}
  {{- if eq $p.type "stat" -}}
    {{- $options = dict "reduceOptions" (dict "calcs" (list "lastNotNull") "fields" "" "values" false) "colorMode" "value" "graphMode" "none" "textMode" (ternary "value_and_name" "value" (ne ($p.legend | default "") "")) -}}
  {{- else if eq $p.type "logs" -}}
    {{- $options = dict "showTime" true "wrapLogMessage" true "prettifyLogMessage" false "enableLogDetails" true "sortOrder" "Descending" "dedupStrategy" "none" -}}
  {{- else if eq $p.type "timeseries" -}}
    {{- $options = dict "legend" (dict "displayMode" "list" "placement" "bottom" "showLegend" true) "tooltip" (dict "mode" "multi" "sort" "desc") -}}
  {{- end -}}
  {{- $panel := dict "id" (add1 $i) "title" $p.title "type" $p.type "datasource" $source "targets" $targets "gridPos" (dict "x" $flow.x "y" $flow.y "w" $w "h" $h) "fieldConfig" (dict "defaults" $defaults "overrides" list) "options" $options -}}
  {{- with $p.description -}}{{- $_ := set $panel "description" . -}}{{- end -}}
  {{- if eq $p.type "table" -}}
    {{- $_ := set $panel "transformations" (list (dict "id" "organize" "options" (dict "excludeByName" (dict "Time" true)))) -}}
  {{- end -}}
  {{- $panels = append $panels $panel -}}
  {{- $_ := set $flow "x" (add $flow.x $w) -}}
  {{- $_ := set $flow "row" (max $flow.row $h) -}}
{{- end -}}
{{- $tenant := dict "name" "tenant" "label" "Cluster" "type" "query" "datasource" (dict "type" "prometheus" "uid" "thanos") "query" (dict "qryType" 1 "query" "label_values(up, tenant_id)" "refId" "tenant") "definition" "label_values(up, tenant_id)" "refresh" 2 "includeAll" true "allValue" ".+" "multi" true "sort" 1 "current" (dict "text" "All" "value" "$__all") -}}
{{- dict "uid" .uid "title" $spec.title "tags" (list "catamaran") "timezone" "browser" "schemaVersion" 39 "version" 1 "editable" false "refresh" "1m" "time" (dict "from" "now-6h" "to" "now") "templating" (dict "list" (list $tenant)) "annotations" (dict "list" list) "panels" $panels | toJson -}}
{{- end -}}
