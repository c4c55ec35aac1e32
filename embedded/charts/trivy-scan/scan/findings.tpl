{{- $found := dict "CRITICAL" 0 "HIGH" 0 "MEDIUM" 0 "LOW" 0 "UNKNOWN" 0 -}}
{{- range $result := . -}}
{{- range .Vulnerabilities -}}
{{- $severity := toString .Severity -}}
{{- $_ := set $found $severity (add1 (get $found $severity)) -}}
{{ dict "kind" "vulnerability" "node" (env "NODE") "image" (env "IMAGE") "reference" (env "REFERENCE") "pod" (env "POD")
  "severity" $severity "id" .VulnerabilityID "package" .PkgName "installed" .InstalledVersion "fixed" .FixedVersion
  "where" $result.Target "title" (trunc 300 .Title) | toJson }}
{{ end -}}
{{- end -}}
{{ dict "kind" "image" "status" "scanned" "node" (env "NODE") "image" (env "IMAGE") "reference" (env "REFERENCE") "pod" (env "POD")
  "critical" $found.CRITICAL "high" $found.HIGH "medium" $found.MEDIUM "low" $found.LOW "unknown" $found.UNKNOWN | toJson }}{{ "\n" -}}
