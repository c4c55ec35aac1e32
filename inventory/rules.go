package inventory

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"
)

// Supported minors. The design: the newest three.
const (
	oldestMinor = 35
	newestMinor = 37
)

// rule is what is asked of a single value, whatever stands around it. The parser and the JSON schema read the same
// rule, so that they can not disagree; only check is beyond a schema.
type rule struct {
	expected string         // completes "expected ..."
	pattern  *regexp.Regexp // in the part of the syntax that Go and ECMA-262 share
	not      *regexp.Regexp // the text must not match
	enum     []string
	formats  []string // the schema's words for what check does, any of them
	most     int      // characters; 0: no limit
	min, max int      // of a whole number; max 0: no limit
	hint     string
	quiet    bool // the value may be a secret that was put in the wrong place: never show it
	check    func(text string) error
}

const (
	octet    = `(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])`
	ipv4     = octet + `(\.` + octet + `){3}`
	ipv6     = `[0-9A-Fa-f:]*:[0-9A-Fa-f:]*`
	dnsLabel = `[a-z0-9]([-a-z0-9]*[a-z0-9])?`
	dnsName  = dnsLabel + `(\.` + dnsLabel + `)*`
	// a host name's last label starts with a letter, so that 10.0.0.256 is no host name
	hostName = `(` + dnsLabel + `\.)*[a-z]([-a-z0-9]*[a-z0-9])?`
	quantity = `[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?`
	labelEnd = `[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?`
)

func exactly(pattern string) *regexp.Regexp { return regexp.MustCompile(`^(` + pattern + `)$`) }

// rules are the single-value rules by the name that the tag "check" gives them. Nothing changes them.
var rules = map[string]rule{ //nolint:gochecknoglobals // a constant table
	"apiVersion": {enum: []string{APIVersion}},
	"kind":       {enum: []string{Kind}},
	"mode":       {enum: []string{string(EndpointVIP), string(EndpointExternal), string(EndpointNode)}},
	"cni":        {enum: []string{string(CNIFlannel), string(CNINone)}},
	"proxyMode":  {enum: []string{"nftables", "iptables"}},
	"role":       {enum: []string{string(ControlPlane), string(Worker)}},
	"state":      {enum: []string{string(Present), string(Absent)}},
	"effect":     {enum: []string{"NoSchedule", "PreferNoSchedule", "NoExecute"}},
	"cluster":    {enum: []string{string(Service), string(Workload)}},

	"antiAffinity": {enum: []string{string(AntiAffinityNone), string(AntiAffinitySoft), string(AntiAffinityHard)}},

	"claim": {enum: []string{"email", "preferred_username", "name", "sub"}},
	"size":  {enum: []string{string(Small), string(Standard), string(Large)}},

	"version": {
		expected: fmt.Sprintf("a full Kubernetes version of 1.%d to 1.%d, such as 1.%d.2", oldestMinor, newestMinor, newestMinor),
		pattern:  exactly(`1\.` + minors() + `\.(0|[1-9][0-9]{0,3})`),
	},
	"label":   {expected: "lower-case letters, digits and dashes, 63 at most", pattern: exactly(dnsLabel), most: 63},
	"node":    {expected: "lower-case letters, digits, dashes and dots, 63 at most", pattern: exactly(dnsName), most: 63},
	"domain":  {expected: "a DNS domain in lower case", pattern: exactly(dnsName), most: 253},
	"release": {expected: "a Helm release name (lower-case letters, digits and dashes, 53 at most)", pattern: exactly(dnsLabel), most: 53},

	"address": {
		expected: "an IP address", pattern: exactly(ipv4 + `|` + ipv6), formats: []string{"ipv4", "ipv6"}, check: checkReachable,
	},
	"endpoint": {
		expected: "an IP address, or for mode external a DNS name in lower case", pattern: exactly(ipv4 + `|` + ipv6 + `|` + hostName),
		formats: []string{"ipv4", "ipv6", "hostname"}, most: 253, check: checkEndpoint,
	},
	"jump": {
		expected: "a host name or an IP address", pattern: exactly(ipv4 + `|` + ipv6 + `|[A-Za-z0-9_]([-A-Za-z0-9_.]*[A-Za-z0-9_])?`),
		most: 253, check: checkJump,
	},
	"cidr": {
		expected: "a network such as 10.100.0.0/16",
		pattern:  exactly(ipv4 + `/(3[0-2]|[12]?[0-9])|` + ipv6 + `/(12[0-8]|1[01][0-9]|[1-9]?[0-9])`), check: checkCIDR,
	},
	"port":      {expected: "1 to 65535", min: 1, max: 65535},
	"positive":  {expected: "at least 1", min: 1},
	"maxPods":   {expected: "1 to 253", min: 1, max: 253, hint: "each node gets a /24 of the pods' network"},
	"days":      {expected: "1 to 36500 days", min: 1, max: 36500},
	"order":     {expected: "0 to 1000", min: 0, max: 1000},
	"count":     {expected: "0 to 1000", min: 0, max: 1000},
	"prefix":    {expected: "1 to 128 bits", min: 1, max: 128},
	"interface": {expected: "a network interface's name", pattern: exactly(`[^\s/:]{1,15}`)},

	"httpsHost": {
		expected: "https:// and a host, and perhaps a port", pattern: exactly(`https://(` + hostName + `|` + ipv4 + `|\[` + ipv6 + `\])(:[0-9]{1,5})?`), most: 300,
	},
	"url": {
		expected: "an http:// or https:// address", pattern: exactly(`https?://(` + hostName + `|` + ipv4 + `|\[` + ipv6 + `\])(:[0-9]{1,5})?(/[^\s?#]*)?`), most: 300,
	},
	"hostPort": {
		expected: "host:port", pattern: exactly(`(` + hostName + `|` + ipv4 + `|\[` + ipv6 + `\]):[0-9]{1,5}`), most: 300,
	},
	"email":  {expected: "a mail address", pattern: exactly(`[^\s@<>,"]+@[^\s@<>,"]+`), most: 254},
	"region": {expected: "a region's name, such as us-east-1", pattern: exactly(`[a-z0-9]([-a-z0-9]*[a-z0-9])?`), most: 63},
	"bucket": {
		expected: "a bucket's name (3 to 63 lower-case letters, digits, dots and dashes)", pattern: exactly(`[a-z0-9][-a-z0-9.]{1,61}[a-z0-9]`),
	},

	"user": {expected: "a user name", pattern: exactly(`[^\s-]\S*`), most: 256},
	"path": {
		expected: "a path, not the content of a file", pattern: exactly(`[^\r\n\x00]+`), most: 4095, quiet: true,
	},
	"env": {
		expected: "the name of an environment variable, never the secret itself", pattern: exactly(`[A-Za-z_][A-Za-z0-9_]*`), quiet: true,
	},
	"hostKey": {
		expected: "SHA256:... or a public key",
		pattern:  exactly(`SHA256:[A-Za-z0-9+/]{43}|(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,2}( [^\r\n]*)?`),
		hint:     "`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the machine shows it", check: checkHostKey,
	},
	"publicKey": {
		expected: "a public key, such as a line of ~/.ssh/id_ed25519.pub",
		pattern:  exactly(`(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,2}( [^\r\n]*)?`), quiet: true, check: checkHostKey,
	},
	"thumbprint": {
		expected: "a SHA-256 thumbprint, 64 digits in hex with or without colons", pattern: exactly(`[0-9A-Fa-f]{2}(:?[0-9A-Fa-f]{2}){31}`),
	},
	"recipient": {expected: "an age public key (age1...)", pattern: exactly(`age1[a-z0-9]{58}`), quiet: true, check: checkRecipient},

	"sysctl":      {expected: "a name such as net.ipv4.ip_forward", pattern: exactly(`[a-z0-9_]+([./][A-Za-z0-9_-]+)+`)},
	"sysctlValue": {expected: "a value without quotes, backslashes and line breaks", pattern: exactly(`[^'"\\\r\n\x00]+`)},
	"module":      {expected: "a kernel module's name", pattern: exactly(`[a-zA-Z0-9_-]+`)},
	"preflight":   {expected: "the name of a kubeadm check, such as NumCPU", pattern: exactly(`[A-Za-z0-9][A-Za-z0-9._-]*`)},

	"labelKey":   {expected: "a Kubernetes label's key", pattern: exactly(`(` + dnsName + `/)?` + labelEnd), most: 317},
	"labelValue": {expected: "a Kubernetes label's value", pattern: exactly(`(` + labelEnd + `)?`)},
	"san":        {expected: "an IP address or a DNS name", pattern: exactly(`(\*\.)?` + dnsName + `|` + ipv6), most: 253},
	"argument":   {expected: "an argument's name without leading dashes", pattern: exactly(`[a-z0-9]+(-[a-z0-9]+)*`)},
	"line":       {expected: "a single line", pattern: exactly(`[^\r\n\x00]*`)},
	"reserved":   {expected: "cpu, memory, ephemeral-storage, pid or hugepages-SIZE", pattern: exactly(`cpu|memory|ephemeral-storage|pid|hugepages-[0-9]+[KMGT]i`)},
	"quantity":   {expected: "a quantity such as 100m or 256Mi", pattern: exactly(quantity)},
	"eviction": {
		expected: "one of kubelet's eviction signals, such as memory.available",
		pattern:  exactly(`(memory|nodefs|imagefs|containerfs|pid|allocatableMemory)\.available|(nodefs|imagefs|containerfs)\.inodesFree`),
	},
	"threshold": {expected: "a quantity or a percentage, such as 200Mi or 10%", pattern: exactly(quantity + `|[0-9]+(\.[0-9]+)?%`)},

	"chart": {
		expected: "a folder, an archive or an oci:// reference", pattern: exactly(`[^\r\n\x00]+`),
		not: regexp.MustCompile(`^(https?://|oci:/?/?$)`), most: 4095,
	},
	"chartVersion": {
		expected: "an exact version such as 1.2.3", hint: "two runs must install the same",
		pattern: exactly(`v?[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.+-]+)?`),
	},
	"duration": {
		expected: "a duration longer than nothing, such as 10s or 5m", pattern: exactly(`([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+`),
		not: regexp.MustCompile(`^[^1-9]*$`),
	},
}

func minors() string {
	var all []string
	for m := oldestMinor; m <= newestMinor; m++ {
		all = append(all, fmt.Sprint(m))
	}
	return `(` + strings.Join(all, "|") + `)`
}

// refuse returns why a text does not keep the rule, or nothing.
func (r rule) refuse(text string) string {
	switch {
	case r.enum != nil && !slices.Contains(r.enum, text):
		return fmt.Sprintf("expected %s, found %s", either(r.enum), quote(text))
	case r.pattern != nil && !r.pattern.MatchString(text),
		r.not != nil && r.not.MatchString(text),
		r.most > 0 && utf8.RuneCountInString(text) > r.most:
		if r.quiet {
			return "expected " + r.expected
		}
		return fmt.Sprintf("expected %s, found %s", r.expected, quote(text))
	case r.check != nil:
		if err := r.check(text); err != nil {
			return err.Error()
		}
	}
	return ""
}

// refuseNumber is refuse of a whole number.
func (r rule) refuseNumber(i int) string {
	if i < r.min || r.max > 0 && i > r.max {
		return fmt.Sprintf("expected %s, found %d", r.expected, i)
	}
	return ""
}

// either lists words: a, b or c.
func either(words []string) string {
	last := len(words) - 1
	if last == 0 {
		return words[0]
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// quote shows a found value, cut to what fits on a line. Further lines are not shown: they may be those of a key.
func quote(text string) string {
	const most = 60
	first, _, more := strings.Cut(text, "\n")
	if r := []rune(first); len(r) > most {
		first, more = string(r[:most]), true
	}
	if more {
		return fmt.Sprintf("%q...", first)
	}
	return fmt.Sprintf("%q", first)
}

func parseAddress(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return a, fmt.Errorf("expected an IP address, found %s", quote(text))
	}
	if a.Zone() != "" {
		return a, fmt.Errorf("%s names a zone, which other machines do not know", text)
	}
	if a.Is4In6() {
		return a, fmt.Errorf("%s is an IPv4 address in disguise: write %s", text, a.Unmap())
	}
	return a, nil
}

// checkReachable refuses addresses that no other machine can send to.
func checkReachable(text string) error {
	a, err := parseAddress(text)
	if err == nil && (a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast()) {
		err = fmt.Errorf("%s is not an address that other nodes can reach", text)
	}
	return err
}

func checkEndpoint(text string) error {
	if exactly(hostName).MatchString(text) && !strings.Contains(text, ":") {
		return nil
	}
	return checkReachable(text)
}

func checkJump(text string) error {
	if strings.Contains(text, ":") {
		_, err := parseAddress(text)
		return err
	}
	return nil
}

func checkCIDR(text string) error {
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return fmt.Errorf("expected a network such as 10.100.0.0/16, found %s", quote(text))
	case p.Addr().Is4In6():
		return fmt.Errorf("%s is an IPv4 network in disguise", text)
	case p.Masked() != p:
		return fmt.Errorf("%s has host bits set: did you mean %s?", text, p.Masked())
	}
	return nil
}

func checkHostKey(text string) error {
	if strings.HasPrefix(text, "SHA256:") {
		return nil
	}
	if _, _, _, _, err := ssh.ParseAuthorizedKey([]byte(text)); err != nil {
		return fmt.Errorf("%s is not a complete public key", quote(text))
	}
	return nil
}

func checkRecipient(text string) error {
	if _, err := age.ParseX25519Recipient(text); err != nil {
		return errors.New("expected an age public key (age1...): the checksum is wrong, a letter is mistyped")
	}
	return nil
}

// checks are what a field's tag asks for.
type checks struct {
	required        bool
	self, key, each string // names of rules
	loose           bool   // numbers and booleans are taken as the text they are written with
}

func checksOf(tag reflect.StructTag) checks {
	var c checks
	for _, word := range strings.Split(tag.Get("check"), ",") {
		name, value, ok := strings.Cut(word, "=")
		switch {
		case word == "required":
			c.required = true
		case !ok:
			c.self = name
		case name == "key":
			c.key = value
		case name == "each":
			c.each = value
		}
	}
	return c
}

// element is what is asked of a list's or a map's elements.
func (c checks) element(t reflect.Type) checks {
	return checks{self: c.each, loose: t.Kind() == reflect.Map}
}

// choice says how many of a struct's fields must be set.
type choice int

const (
	anyNumber choice = iota
	atLeastOne
	exactlyOne
	atMostOne
)

func choiceOf(t reflect.Type) choice {
	switch t {
	case reflect.TypeFor[Clusters]():
		return atLeastOne
	case reflect.TypeFor[Secret]():
		return exactlyOne
	case reflect.TypeFor[Provider]():
		return atMostOne
	}
	return anyNumber
}
