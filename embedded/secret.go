package embedded

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// Issuer names one of the site's authorities. Their keys never leave the vault.
type Issuer string

// The site's authorities.
const (
	// IssuerService is for the parts of the service cluster among themselves.
	IssuerService Issuer = "service"
	// IssuerIngestServer signs what the ingest gateway shows to workload clusters, and nothing else.
	IssuerIngestServer Issuer = "ingest-server"
	// IssuerIngestClient signs what a workload cluster shows to the ingest gateway: its tenant's name.
	IssuerIngestClient Issuer = "ingest-client"
)

// Secret says what a Secret holds and where that comes from, never the content itself. It is made from the vault before
// the release that mounts it is installed. At least one of Certificate and Values is set.
type Secret struct {
	Namespace, Name string
	// Certificate makes a Secret of type kubernetes.io/tls with tls.crt, tls.key and ca.crt.
	Certificate *Certificate `json:",omitempty"`
	// Values are further keys, or without a certificate all of an Opaque Secret.
	Values map[string]SecretValue `json:",omitempty"`
}

// Certificate is what a certificate is asked to be. It lives one year.
type Certificate struct {
	Issuer Issuer
	// Trust is the authority that goes into ca.crt: the peers' one.
	Trust        Issuer
	CommonName   string
	Organization []string `json:",omitempty"`
	DNSNames     []string `json:",omitempty"`
	IPs          []string `json:",omitempty"`
	// Server and Client are its usages; at least one is set.
	Server, Client bool
}

// SecretValue is one key of an Opaque Secret. Exactly one field is set.
type SecretValue struct {
	// Password names a random password of the vault, made when it is asked for first: 256 bits, 43 characters of base64url.
	// The same name is the same password everywhere.
	Password string `json:",omitempty"`
	// Text is no secret, such as the name that belongs to a password. "{{NAME}}" in it stands for the vault's password NAME,
	// for files of a program's own format.
	Text string `json:",omitempty"`
	// From is a secret of the site's own, read from where the inventory says at each apply.
	From *inventory.Secret `json:",omitempty"`
	// File is a file of the site's own that is no secret, such as a certificate.
	File string `json:",omitempty"`
	// Form is a file of a program's own format with secrets of the site's in it.
	Form *Form `json:",omitempty"`
}

// Form is a text in which "{{NAME}}" stands between double quotes for a secret of the site's own. What YAML and similar formats take
// for more than itself there (" and \) is escaped.
type Form struct {
	Text   string
	Blanks map[string]*inventory.Secret
}

// read returns what stands for a blank; secrets of more than one line are refused.
func (f *Form) read(name string) (string, error) {
	data, err := f.Blanks[name].Read("") // its path is absolute
	if err != nil {
		return "", err
	}
	text := strings.TrimRight(string(data), "\r\n")
	if strings.ContainsFunc(text, unicode.IsControl) {
		return "", fmt.Errorf("the secret %s is not one line of text", name)
	}
	return text, nil
}

// Secrets are what is filled in and must not be shown, as far as it can be read.
func (f *Form) Secrets() []string {
	if f == nil {
		return nil
	}
	var out []string
	for name := range f.Blanks {
		if text, err := f.read(name); err == nil {
			out = append(out, text, escaped(text))
		}
	}
	return out
}

func (f *Form) fill() (string, error) {
	pairs := []string{}
	for _, name := range slices.Sorted(maps.Keys(f.Blanks)) {
		text, err := f.read(name)
		if err != nil {
			return "", err
		}
		pairs = append(pairs, "{{"+name+"}}", escaped(text))
	}
	return strings.NewReplacer(pairs...).Replace(f.Text), nil
}

// escaped is a text as it stands between double quotes.
func escaped(text string) string { return strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) }

// Check finds files and variables of the site's own that can not be read, whatever the vault holds.
func (s Secret) Check() error {
	for _, key := range slices.Sorted(maps.Keys(s.Values)) {
		v := s.Values[key]
		if v.From == nil && v.File == "" && v.Form == nil {
			continue
		}
		if _, err := v.Resolve(nil); err != nil {
			return fmt.Errorf("secret %s/%s, key %s: %w", s.Namespace, s.Name, key, err)
		}
	}
	return nil
}

// placeholder is a password's place in a text.
var placeholder = regexp.MustCompile(`\{\{([a-z0-9-]+)\}\}`)

// Passwords are the names of the vault's passwords that the Secret needs, sorted, each once.
func (s Secret) Passwords() []string {
	var out []string
	for _, v := range s.Values {
		if v.Password != "" {
			out = append(out, v.Password)
		}
		for _, m := range placeholder.FindAllStringSubmatch(v.Text, -1) {
			out = append(out, m[1])
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Resolve returns the value, with the vault's passwords.
func (v SecretValue) Resolve(passwords map[string]string) (string, error) {
	var missing []string
	password := func(name string) string {
		p, ok := passwords[name]
		if !ok {
			missing = append(missing, name)
		}
		return p
	}
	var out string
	switch {
	case v.Password != "":
		out = password(v.Password)
	case v.From != nil:
		data, err := v.From.Read("") // its path is absolute
		if err != nil {
			return "", err
		}
		out = string(data)
	case v.Form != nil:
		text, err := v.Form.fill()
		if err != nil {
			return "", err
		}
		out = text
	case v.File != "":
		data, err := os.ReadFile(v.File)
		if err != nil {
			return "", err
		}
		out = string(data)
	default:
		out = placeholder.ReplaceAllStringFunc(v.Text, func(m string) string { return password(m[2 : len(m)-2]) })
	}
	if missing != nil {
		return "", fmt.Errorf("the vault has no password %s", strings.Join(missing, ", "))
	}
	return out, nil
}

// checkSeparation refuses a Secret for the workload cluster that holds more than what proves its tenant's name to the
// ingest gateway. What the inventory itself gives is the operator's word.
func checkSeparation(inv *inventory.Inventory, s Secret) error {
	what := "the Secret " + s.Namespace + "/" + s.Name + " of the workload cluster"
	if len(s.Passwords()) > 0 {
		return fmt.Errorf("%s holds a password of the vault", what)
	}
	c := s.Certificate
	if c == nil {
		return nil
	}
	if c.Issuer != IssuerIngestClient || c.Trust != IssuerIngestServer || c.Server || !c.Client ||
		c.CommonName != inv.Platform.Tenant || len(c.DNSNames) > 0 || len(c.IPs) > 0 {
		return fmt.Errorf("%s is no client certificate of tenant %s for the ingest gateway", what, inv.Platform.Tenant)
	}
	return nil
}
