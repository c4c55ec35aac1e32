package embedded

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A checker for fluent.conf, as far as one can be checked without Fluentd: its syntax, plugins that the image carries, their
// parameters by name and type, required ones, labels that are there, ids and position files that are not shared.

// directive is a section of fluent.conf.
type directive struct {
	name, arg string
	line      int
	params    map[string]string
	inner     []*directive
}

// plugin is what a section may hold, beside @type, @id, @label and @log_level. A parameter that ends in ! is required.
type plugin struct {
	params map[string]string
	inner  map[string]string // section to min-max of it
}

// plugins are those of the image fluent/fluentd-kubernetes-daemonset:v1.19-debian-forward that we know the parameters of:
// Fluentd's own and the gems concat, detect-exceptions, grok-parser, json-in-json-2, kubernetes_metadata_filter,
// multi-format-parser, parser-cri, prometheus, record-modifier, rewrite-tag-filter and systemd.
func plugins() map[string]plugin {
	return map[string]plugin{
		"source/tail": {
			params: map[string]string{
				"tag": "string!", "path": "string!", "exclude_path": "array", "pos_file": "string!", "pos_file_compaction_interval": "time", "path_key": "string",
				"follow_inodes": "bool", "read_from_head": "bool", "refresh_interval": "time", "rotate_wait": "time", "enable_stat_watcher": "bool",
				"enable_watch_timer": "bool", "emit_unmatched_lines": "bool", "max_line_size": "size", "read_lines_limit": "integer",
				"read_bytes_limit_per_second": "size", "ignore_repeated_permission_error": "bool", "limit_recently_modified": "time",
				"skip_refresh_on_startup": "bool", "open_on_every_update": "bool", "encoding": "string", "from_encoding": "string",
			},
			inner: map[string]string{"parse": "1-1"},
		},
		"source/systemd": {
			params: map[string]string{"tag": "string!", "path": "string", "matches": "array", "read_from_head": "bool"},
			inner:  map[string]string{"storage": "0-1", "entry": "0-1"},
		},
		"source/prometheus": {
			params: map[string]string{"bind": "string", "port": "integer", "metrics_path": "string", "aggregated_metrics_path": "string"},
			inner:  map[string]string{"transport": "0-1", "ssl": "0-1"},
		},
		"source/prometheus_output_monitor": {params: map[string]string{"interval": "time", "gauge_all": "bool"}, inner: map[string]string{"labels": "0-1"}},
		"filter/parser": {
			params: map[string]string{
				"key_name": "string!", "reserve_data": "bool", "reserve_time": "bool", "remove_key_name_field": "bool", "replace_invalid_sequence": "bool",
				"inject_key_prefix": "string", "hash_value_field": "string", "emit_invalid_record_to_error": "bool",
			},
			inner: map[string]string{"parse": "1-1"},
		},
		"filter/record_transformer": {
			params: map[string]string{
				"enable_ruby": "bool", "auto_typecast": "bool", "renew_record": "bool", "renew_time_key": "string", "keep_keys": "array", "remove_keys": "array",
			},
			inner: map[string]string{"record": "0-1"},
		},
		"match/null":    {},
		"match/relabel": {},
		"match/forward": {
			params: map[string]string{
				"transport": "tcp|tls", "require_ack_response": "bool", "ack_response_timeout": "time", "send_timeout": "time", "connect_timeout": "time",
				"heartbeat_type": "transport|tcp|udp|none", "keepalive": "bool", "keepalive_timeout": "time", "compress": "text|gzip|zstd",
				"tls_cert_path": "string", "tls_client_cert_path": "string", "tls_client_private_key_path": "string", "tls_verify_hostname": "bool",
				"tls_insecure_mode": "bool", "tls_allow_self_signed_cert": "bool", "tls_version": "TLSv1_2|TLSv1_3", "expire_dns_cache": "time",
				"ignore_network_errors_at_startup": "bool", "recover_wait": "time", "hard_timeout": "time", "verify_connection_at_startup": "bool",
			},
			inner: map[string]string{"server": "1-9", "buffer": "0-1", "secondary": "0-1", "security": "0-1"},
		},
		"parse/cri":    {params: map[string]string{"merge_cri_fields": "bool", "time_format": "string", "keep_time_key": "bool"}, inner: map[string]string{"parse": "0-1"}},
		"parse/none":   {params: map[string]string{"message_key": "string"}},
		"parse/json":   {params: map[string]string{"json_parser": "oj|yajl|json", "time_key": "string", "time_format": "string", "keep_time_key": "bool"}},
		"parse/regexp": {params: map[string]string{"expression": "regexp!", "ignorecase": "bool", "multiline": "bool", "time_key": "string", "types": "string"}},
		"storage/local": {
			params: map[string]string{
				"persistent": "bool", "path": "string", "mode": "string", "dir_mode": "string", "pretty_print": "bool", "autosave": "bool",
				"autosave_interval": "time", "save_at_shutdown": "bool",
			},
		},
		"buffer/file": {
			params: map[string]string{
				"path": "string", "chunk_limit_size": "size", "chunk_limit_records": "integer", "total_limit_size": "size", "queue_limit_length": "integer",
				"chunk_full_threshold": "float", "compress": "text|gzip|zstd", "flush_at_shutdown": "bool", "flush_mode": "default|lazy|interval|immediate",
				"flush_interval": "time", "flush_thread_count": "integer", "flush_thread_interval": "float", "flush_thread_burst_interval": "float",
				"delayed_commit_timeout": "time", "overflow_action": "throw_exception|block|drop_oldest_chunk", "retry_timeout": "time", "retry_forever": "bool",
				"retry_max_times": "integer", "retry_type": "exponential_backoff|periodic", "retry_wait": "time", "retry_exponential_backoff_base": "float",
				"retry_max_interval": "time", "retry_randomize": "bool", "disable_chunk_backup": "bool",
			},
		},
		// sections without plugins
		"server/": {params: map[string]string{
			"name": "string", "host": "string!", "port": "integer", "shared_key": "string", "username": "string", "password": "string", "standby": "bool",
			"weight": "integer",
		}},
		"entry/":  {params: map[string]string{"field_map": "hash", "field_map_strict": "bool", "fields_strip_underscores": "bool", "fields_lowercase": "bool"}},
		"record/": {params: map[string]string{"*": "string"}},
		"labels/": {params: map[string]string{"*": "string"}},
		"system/": {params: map[string]string{
			"log_level": "trace|debug|info|warn|error|fatal", "root_dir": "string", "workers": "integer", "dir_permission": "octal", "file_permission": "octal",
			"ignore_repeated_log_interval": "time", "ignore_same_log_interval": "time", "suppress_repeated_stacktrace": "bool",
		}},
	}
}

// checkFluentd lists everything that is wrong with a configuration.
func checkFluentd(text string) []string {
	root, problems := parseFluentd(text)
	c := &fluentdCheck{plugins: plugins(), labels: map[string]bool{}, used: map[string]int{}, taken: map[string]int{}, problems: problems}
	for _, d := range root.inner {
		if d.name == "label" {
			c.labels[d.arg] = true
		}
	}
	c.inside(root, []string{"source", "filter", "match", "label", "system", "worker"})
	for label := range c.labels {
		if c.used[label] == 0 && label != "@FLUENT_LOG" && label != "@ERROR" {
			c.failed(0, "nothing goes to label %s", label)
		}
	}
	return c.problems
}

type fluentdCheck struct {
	plugins  map[string]plugin
	labels   map[string]bool
	used     map[string]int // labels
	taken    map[string]int // ids and files, by line
	problems []string
}

func (c *fluentdCheck) failed(line int, format string, args ...any) {
	c.problems = append(c.problems, fmt.Sprintf("line %d: ", line)+fmt.Sprintf(format, args...))
}

// inside checks the sections of a root or a label. The order counts: what stands behind a match of everything is never reached.
func (c *fluentdCheck) inside(d *directive, allowed []string) {
	everything := 0
	for _, s := range d.inner {
		if !slices.Contains(allowed, s.name) {
			c.failed(s.line, "<%s> can not stand in <%s>", s.name, d.name)
			continue
		}
		if s.name == "label" {
			if !strings.HasPrefix(s.arg, "@") {
				c.failed(s.line, "a label begins with @")
			}
			c.inside(s, []string{"filter", "match"})
			continue
		}
		if (s.name == "match" || s.name == "filter") && s.arg == "" {
			c.failed(s.line, "<%s> has no pattern", s.name)
		}
		if everything > 0 && (s.name == "match" || s.name == "filter") {
			c.failed(s.line, "line %d has matched everything already", everything)
		}
		if s.name == "match" && s.arg == "**" {
			everything = s.line
		}
		c.section(s)
	}
	if d.name == "label" && everything == 0 {
		c.failed(d.line, "what no match of %s takes is lost", d.arg)
	}
}

func (c *fluentdCheck) section(d *directive) {
	kind := d.params["@type"]
	key := d.name + "/" + kind
	if _, free := c.plugins[d.name+"/"]; free {
		key = d.name + "/"
	}
	p, ok := c.plugins[key]
	if !ok {
		c.failed(d.line, "the image has no %s plugin %q, or the checker does not know it", d.name, kind)
		return
	}
	for name, value := range d.params {
		switch name {
		case "@type", "@log_level":
			continue
		case "@id":
			c.once(d.line, "@id "+value)
			continue
		case "@label":
			c.used[value]++
			if !c.labels[value] {
				c.failed(d.line, "there is no label %s", value)
			}
			continue
		}
		want, known := p.params[name]
		if !known {
			want, known = p.params["*"]
		}
		if !known {
			c.failed(d.line, "%s has no parameter %s", key, name)
			continue
		}
		if why := fluentdValue(strings.TrimSuffix(want, "!"), value); why != "" {
			c.failed(d.line, "%s: %s", name, why)
		}
		if name == "pos_file" || name == "path" && (d.name == "storage" || d.name == "buffer") {
			c.once(d.line, "file "+value)
		}
	}
	for name, want := range p.params {
		if strings.HasSuffix(want, "!") && d.params[name] == "" {
			c.failed(d.line, "%s needs %s", key, name)
		}
	}
	counts := map[string]int{}
	for _, s := range d.inner {
		counts[s.name]++
		if _, ok := p.inner[s.name]; !ok {
			c.failed(s.line, "<%s> can not stand in %s", s.name, key)
			continue
		}
		c.section(s)
	}
	for name, limits := range p.inner {
		least, most := int(limits[0]-'0'), int(limits[2]-'0')
		if counts[name] < least || counts[name] > most {
			c.failed(d.line, "%s has %d <%s>, it may be %s", key, counts[name], name, limits)
		}
	}
	if key == "match/forward" {
		for _, s := range d.inner {
			if s.name == "buffer" && s.arg != "" && !slices.Contains(strings.Split(strings.ReplaceAll(s.arg, " ", ""), ","), "tag") {
				c.failed(s.line, "forward sends chunks of one tag: the buffer's keys must have tag")
			}
		}
	}
}

func (c *fluentdCheck) once(line int, what string) {
	if before, twice := c.taken[what]; twice {
		c.failed(line, "%s is that of line %d", what, before)
	}
	c.taken[what] = line
}

// fluentdValue says why a value is none of its type.
func fluentdValue(kind, value string) string {
	patterns := map[string]string{
		"bool": `^(true|false)$`, "integer": `^\d+$`, "float": `^\d+(\.\d+)?$`, "time": `^\d+(\.\d+)?[smhd]?$`, "size": `^\d+[kmgt]?$`, "octal": `^0[0-7]{3}$`,
		"string": `.`,
	}
	switch kind {
	case "array":
		var out []any
		if json.Unmarshal([]byte(value), &out) != nil {
			return fmt.Sprintf("%q is no JSON array", value)
		}
		return ""
	case "hash":
		var out map[string]any
		if json.Unmarshal([]byte(value), &out) != nil {
			return fmt.Sprintf("%q is no JSON object", value)
		}
		return ""
	case "regexp":
		inner, ok := strings.CutPrefix(value, "/")
		inner, ok2 := strings.CutSuffix(inner, "/")
		if _, err := regexp.Compile(strings.ReplaceAll(inner, `\/`, `/`)); !ok || !ok2 || err != nil {
			return fmt.Sprintf("%q is no regular expression between slashes", value)
		}
		return ""
	}
	if strings.Contains(kind, "|") {
		if !slices.Contains(strings.Split(kind, "|"), value) {
			return fmt.Sprintf("%q is none of %s", value, kind)
		}
		return ""
	}
	if !regexp.MustCompile(patterns[kind]).MatchString(value) {
		return fmt.Sprintf("%q is no %s", value, kind)
	}
	return ""
}

func parseFluentd(text string) (*directive, []string) {
	open, closed := regexp.MustCompile(`^<([a-z_]+)( +[^<>]*[^<> ])?>$`), regexp.MustCompile(`^</([a-z_]+)>$`)
	root := &directive{params: map[string]string{}}
	stack, problems := []*directive{root}, []string(nil)
	failed := func(line int, why string) { problems = append(problems, "line "+strconv.Itoa(line)+": "+why) }
	for i, line := range strings.Split(text, "\n") {
		line, n, top := strings.TrimSpace(line), i+1, stack[len(stack)-1]
		if line == "" || line[0] == '#' {
			continue
		}
		if m := closed.FindStringSubmatch(line); m != nil {
			if len(stack) == 1 || top.name != m[1] {
				failed(n, line+" closes nothing")
				continue
			}
			stack = stack[:len(stack)-1]
			continue
		}
		if line[0] == '<' {
			m := open.FindStringSubmatch(line)
			if m == nil {
				failed(n, line+" is no section")
				continue
			}
			d := &directive{name: m[1], arg: strings.TrimSpace(m[2]), line: n, params: map[string]string{}}
			top.inner, stack = append(top.inner, d), append(stack, d)
			continue
		}
		key, value, _ := strings.Cut(line, " ")
		value = strings.TrimSpace(value)
		if len(stack) == 1 {
			failed(n, key+" stands in no section")
		}
		if _, twice := top.params[key]; twice {
			failed(n, key+" is there twice")
		}
		// a quoted value may hold Ruby; a value that is not quoted ends at a comment
		if !strings.HasPrefix(value, `"`) && strings.Contains(value, " #") {
			failed(n, key+": what stands behind # is a comment")
		}
		if strings.HasPrefix(value, `"`) && (len(value) < 2 || !strings.HasSuffix(value, `"`)) {
			failed(n, key+": the quotation does not end")
		}
		top.params[key] = value
	}
	if len(stack) > 1 {
		failed(stack[len(stack)-1].line, "<"+stack[len(stack)-1].name+"> is not closed")
	}
	return root, problems
}

// The checker finds what it is for, each in a copy of the rendered file that was damaged in one place.
func TestFluentdChecker(t *testing.T) {
	t.Parallel()
	good := data(t, rendered(t, "fluentd", nil), "fluent.conf")
	cases := map[string]struct{ old, new, want string }{
		"a plugin that the image lacks":  {"@type record_transformer", "@type geoip", `no filter plugin "geoip"`},
		"a mistyped parameter":           {"require_ack_response", "require_ack_respond", "no parameter require_ack_respond"},
		"a wrong bool":                   {"retry_forever true", "retry_forever yes", `"yes" is no bool`},
		"a wrong size":                   {"chunk_limit_size 8m", "chunk_limit_size 8MiB", `"8MiB" is no size`},
		"a wrong word":                   {"overflow_action block", "overflow_action wait", `"wait" is none of`},
		"a regular expression":           {"(?<pod_uid>", "(?<pod uid>", "no regular expression"},
		"a list that is none":            {`exclude_path ["`, `exclude_path [`, "no JSON array"},
		"a required parameter":           {"pos_file /var/lib/catamaran/fluentd/pos/audit.pos", "", "needs pos_file"},
		"a shared position file":         {"pos/audit.pos", "pos/falco.pos", "pos/falco.pos is that of line"},
		"a label that is not there":      {"<label @OUT>", "<label @IN>", "there is no label @OUT"},
		"a section that is not closed":   {"</buffer>", "", "closes nothing"},
		"a section in the wrong place":   {"<buffer tag>", "<storage>", "can not stand in match/forward"},
		"a buffer by something else":     {"<buffer tag>", "<buffer time>", "keys must have tag"},
		"no server":                      {"host 10.77.0.10", "", "needs host"},
		"a comment behind a value":       {"compress gzip", "compress gzip # small", "is a comment"},
		"events that nobody takes":       {"<match **>\n    @type forward", "<match x.**>\n    @type forward", "is lost"},
		"a filter that is never reached": {"<label @OUT>", "<label @OUT>\n<match **>\n@type null\n</match>", "matched everything already"},
	}
	require.Empty(t, checkFluentd(good))
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, good, c.old)
			assert.Contains(t, strings.Join(checkFluentd(strings.ReplaceAll(good, c.old, c.new)), "\n"), c.want)
		})
	}
}
