package pki

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"sort"
	"strings"
	"sync"
)

// Redactor takes known secrets out of text. It is the second line of defence: nothing should print them at all.
type Redactor struct {
	mu    sync.RWMutex
	forms map[string]bool
	exact *strings.Replacer
	// loose are the long forms without spaces: they are found even where the text is wrapped or indented.
	loose []string
}

// redacted stands where a secret was.
const redacted = "[redacted]"

const (
	// shortest is the length below which a form is not looked for, in bytes: it would blank out ordinary words.
	shortest = 6
	// long is the length from which a form is also looked for across line breaks, in bytes.
	long = 20
)

// NewRedactor knows no secret yet.
func NewRedactor() *Redactor {
	return &Redactor{forms: map[string]bool{}, exact: strings.NewReplacer()}
}

// Add registers a secret, in every form in which programs print one: each of its lines, within JSON, a URL or a shell
// word, and in base64, also when it is only a part of what was encoded.
func (r *Redactor) Add(secrets ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range secrets {
		for _, form := range formsOf(strings.TrimSpace(s)) {
			if len(form) >= shortest && !strings.HasPrefix(form, "-----") {
				r.forms[form] = true
			}
		}
	}
	// the longest first, so that a secret inside another does not leave half of it
	all := make([]string, 0, len(r.forms))
	for s := range r.forms {
		all = append(all, s)
	}
	sort.Slice(all, func(i, j int) bool {
		if len(all[i]) != len(all[j]) {
			return len(all[i]) > len(all[j])
		}
		return all[i] < all[j]
	})
	pairs := make([]string, 0, 2*len(all))
	r.loose = nil
	for _, s := range all {
		pairs = append(pairs, s, redacted)
		if tight, _ := squeeze(s); len(tight) >= long {
			r.loose = append(r.loose, tight)
		}
	}
	r.exact = strings.NewReplacer(pairs...)
}

// formsOf are the ways in which a secret is written.
func formsOf(s string) []string {
	forms := append(strings.Split(s, "\n"), s, url.QueryEscape(s), url.PathEscape(s), strings.ReplaceAll(s, "'", `'\''`))
	if quoted, err := json.Marshal(s); err == nil { // a string always has a JSON form
		forms = append(forms, strings.Trim(string(quoted), `"`))
	}
	if trimmed := strings.TrimSuffix(strings.TrimPrefix(s, pemHead(s)), pemTail(s)); trimmed != s {
		forms = append(forms, trimmed)
	}
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		forms = append(forms, enc.EncodeToString([]byte(s)), enc.EncodeToString([]byte(s+"\n"))) // files end in a line end
		// within something longer the secret begins at any of three places of a group, and its ends mix with neighbours
		for before := range 3 {
			padded := enc.EncodeToString(append(make([]byte, before), s...))
			begin, end := (before*8+5)/6, (before+len(s))*8/6
			if end-begin >= shortest {
				forms = append(forms, padded[begin:end])
			}
		}
	}
	return forms
}

// pemHead and pemTail are the lines of a PEM block that are no secret.
func pemHead(s string) string {
	if head, _, ok := strings.Cut(s, "\n"); ok && strings.HasPrefix(head, "-----BEGIN") {
		return head + "\n"
	}
	return ""
}

func pemTail(s string) string {
	if i := strings.LastIndex(s, "\n-----END"); i >= 0 {
		return s[i:]
	}
	return ""
}

// AddSecrets registers what must not be shown of a cluster's secrets; certificates are public.
func (r *Redactor) AddSecrets(s ClusterSecrets) {
	r.Add(s.CA.Key, s.FrontProxyCA.Key, s.EtcdCA.Key, s.ServiceAccount.Key, s.EncryptionKey)
}

// AddPlatform is AddSecrets of the compliance platform's.
func (r *Redactor) AddPlatform(s PlatformSecrets) {
	secrets := []string{s.ServiceCA.Key, s.IngestServerCA.Key, s.IngestClientCA.Key, s.DigestKey}
	for _, p := range s.Passwords {
		secrets = append(secrets, p)
	}
	r.Add(secrets...)
}

// Text returns s without secrets.
func (r *Redactor) Text(s string) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.wrapped(r.exact.Replace(s))
}

// wrapped takes out long secrets that are broken over lines.
func (r *Redactor) wrapped(s string) string {
	tight, at := squeeze(s)
	if len(tight) == len(s) {
		return s // nothing is broken: the exact forms have found all
	}
	hidden := make([]bool, len(s))
	found := false
	for _, form := range r.loose {
		for from := 0; ; {
			i := strings.Index(tight[from:], form)
			if i < 0 {
				break
			}
			found = true
			first, last := at[from+i], at[from+i+len(form)-1]
			for k := first; k <= last; k++ {
				hidden[k] = true
			}
			from += i + len(form)
		}
	}
	if !found {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		switch {
		case !hidden[i]:
			b.WriteByte(s[i])
		case i == 0 || !hidden[i-1]:
			b.WriteString(redacted)
		}
	}
	return b.String()
}

// squeeze drops spaces, line ends, and the escapes of line ends, and says where each byte that is left was.
func squeeze(s string) (string, []int) {
	tight, at := make([]byte, 0, len(s)), make([]int, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
		case c == '\\' && i+1 < len(s) && strings.IndexByte("nrt\n", s[i+1]) >= 0:
			i++
		default:
			tight, at = append(tight, c), append(at, i)
		}
	}
	return string(tight), at
}
