package harvest

import (
	"bytes"
	"crypto"
	"crypto/dsa" //nolint:staticcheck // only to tell such keys apart
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"
)

// Text looks for credentials in a file, an annotation, a command line: anything that may hold some. place names it in reports.
func (c *Collector) Text(place string, data []byte) {
	c.count()
	c.text(place, data, 0)
}

// Environment looks through the NUL-separated variables of a process.
func (c *Collector) Environment(place string, data []byte) {
	c.count()
	values := map[string][]byte{}
	for _, v := range bytes.Split(data, []byte{0}) {
		if name, value, ok := strings.Cut(string(v), "="); ok && value != "" {
			values[name] = []byte(value)
		}
	}
	c.values(place+" ", values, false)
}

// Values looks through the keys of one Secret (secret: whatever is not understood is a secret all the same) or ConfigMap.
func (c *Collector) Values(place string, values map[string][]byte, secret bool) {
	c.count()
	c.values(place+" key ", values, secret)
}

func (c *Collector) values(prefix string, values map[string][]byte, secret bool) {
	var pairs []pair
	names := make([]string, 0, len(values))
	for n := range values {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		v := values[n]
		found := c.text(prefix+n, v, 0)
		if text := strings.TrimSpace(string(v)); !found && utf8.ValidString(text) && len(text) <= maxSecret {
			pairs = append(pairs, pair{name: n, value: text, place: prefix + n, secret: secret})
		}
	}
	c.pairs(pairs)
}

const (
	// maxSecret bounds a password, token or key that is not PEM, in bytes.
	maxSecret = 4096
	// minSecret is the shortest password that is taken for one, in bytes: shorter words match everywhere.
	minSecret = 6
	// maxDepth bounds what is packed in what is packed, such as a kubeconfig in a Secret's manifest.
	maxDepth = 4
)

var (
	jwt        = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{16,}`)
	bootstrap  = regexp.MustCompile(`\b[a-z0-9]{6}\.[a-z0-9]{16}\b`)
	packedPEM  = regexp.MustCompile(`LS0tLS1CRUdJTi[A-Za-z0-9+/=_-]{40,}`)
	packedJSON = regexp.MustCompile(`ey[IJ][A-Za-z0-9+/]{80,}={0,2}`)
	inURL      = regexp.MustCompile(`[a-z][a-z0-9+.-]*://[^\s/"'@:]+:[^\s/"'@]+@[^\s/"']+`)
	header     = regexp.MustCompile(`(?i)\b(basic|bearer)\s+([A-Za-z0-9+/=._~-]{8,})`)
	shadow     = regexp.MustCompile(`(?m)^([a-z_][a-z0-9_-]*):(\$[0-9a-z]+\$[^:\s]+):`)
	// name and value in JSON, YAML, INI, shell and command lines
	assigned = regexp.MustCompile(`["']?([A-Za-z0-9_.-]*(?i:access|secret|passw|pwd|pass|user|login|token|auth|key)[A-Za-z0-9_.-]*)["']?[ \t]*[:=][ \t]*["']?([^\s"',;{}\[\]\\]+)`)
	spaced   = regexp.MustCompile(`--([a-z-]*(?i:secret|passw|token|key)[a-z-]*)[ \x00]([^\s\x00-]\S*)`)
)

// text reports whether it found anything that explains the data.
func (c *Collector) text(place string, data []byte, depth int) bool {
	if depth > maxDepth || len(data) == 0 {
		return false
	}
	found := c.pem(place, data)
	for _, packed := range packedPEM.FindAllString(string(data), -1) {
		if plain, ok := unpack(packed); ok {
			found = c.text(place, plain, depth+1) || found
		}
	}
	if !utf8.Valid(data) {
		return found
	}
	text := string(data)
	if strings.Contains(text, `-----\n`) { // PEM within JSON
		found = c.pem(place, []byte(strings.ReplaceAll(text, `\n`, "\n"))) || found
	}
	for _, t := range jwt.FindAllString(text, -1) {
		c.addSecret(Token, place, tokenSubject(t), t)
		found = true
	}
	for _, packed := range packedJSON.FindAllString(jwt.ReplaceAllString(text, ""), -1) {
		if plain, ok := unpack(packed); ok && json.Valid(plain) {
			found = c.text(place, plain, depth+1) || found
		}
	}
	for _, t := range bootstrap.FindAllString(text, -1) {
		id, secret, _ := strings.Cut(t, ".")
		if !strings.ContainsAny(secret, "0123456789") {
			continue // a name in a template; of random ones 1 in 180 has no digit
		}
		c.addSecret(Token, place, "bootstrap token "+id, t)
	}
	for _, u := range inURL.FindAllString(text, -1) {
		if parsed, err := url.Parse(u); err == nil && parsed.User != nil {
			if password, ok := parsed.User.Password(); ok && !strings.HasPrefix(password, "$") {
				c.addSecret(Password, place, parsed.User.Username(), password)
			}
		}
	}
	for _, m := range header.FindAllStringSubmatch(text, -1) {
		c.header(place, strings.ToLower(m[1]), m[2])
	}
	for _, m := range shadow.FindAllStringSubmatch(text, -1) {
		c.addSecret(Opaque, place, m[1], m[2])
	}
	var pairs []pair
	for _, re := range []*regexp.Regexp{assigned, spaced} {
		for _, m := range re.FindAllStringSubmatch(text, -1) {
			if len(m[2]) <= maxSecret && !strings.HasPrefix(m[2], "-----") {
				pairs = append(pairs, pair{name: m[1], value: strings.TrimSpace(m[2]), place: place})
			}
		}
	}
	c.pairs(pairs)
	return found
}

func (c *Collector) header(place, scheme, value string) {
	if scheme == "bearer" {
		if !jwt.MatchString(value) {
			c.addSecret(Opaque, place, "", value)
		}
		return
	}
	if plain, ok := unpack(value); ok {
		if user, password, ok := strings.Cut(string(plain), ":"); ok && utf8.Valid(plain) && password != "" {
			c.addSecret(Password, place, user, password)
		}
	}
}

// pem finds certificates and keys. Blocks may follow each other, with anything between them.
func (c *Collector) pem(place string, data []byte) bool {
	found := false
	for len(data) > 0 {
		at := bytes.Index(data, []byte("-----BEGIN "))
		if at < 0 {
			break
		}
		data = data[at:]
		block, rest := pem.Decode(unindent(data))
		if block == nil {
			data = data[1:]
			continue
		}
		data = rest
		if block.Type == "CERTIFICATE" {
			if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
				c.addCertificate(place, cert)
				found = true
			}
		} else if key, ok := parseKey(block); ok {
			c.addKey(place, key)
			found = true
		}
	}
	return found
}

// unindent drops the spaces before each line: PEM in YAML is indented, and the decoder wants it at the margin.
func unindent(data []byte) []byte {
	if !bytes.Contains(data, []byte("\n ")) && !bytes.Contains(data, []byte("\n\t")) {
		return data
	}
	lines := bytes.Split(data, []byte("\n"))
	for i := range lines {
		lines[i] = bytes.TrimSpace(lines[i])
	}
	return bytes.Join(lines, []byte("\n"))
}

func parseKey(block *pem.Block) (crypto.Signer, bool) {
	if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
		return nil, false
	}
	raw, err := ssh.ParseRawPrivateKey(pem.EncodeToMemory(block)) // knows PKCS 1, PKCS 8, SEC 1 and OpenSSH
	if err != nil {
		return nil, false // encrypted, or no key: nobody can use it without more
	}
	switch k := raw.(type) {
	case *ed25519.PrivateKey:
		return *k, true
	case *ecdsa.PrivateKey:
		return k, true
	case *dsa.PrivateKey:
		return nil, false
	case crypto.Signer:
		return k, true
	}
	return nil, false
}

func unpack(s string) ([]byte, bool) {
	s = strings.TrimRight(s, "=")
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		if plain, err := enc.DecodeString(s); err == nil {
			return plain, true
		}
	}
	return nil, false
}

// tokenSubject is whom a JWT speaks for; the signature is not looked at.
func tokenSubject(token string) string {
	parts := strings.Split(token, ".")
	plain, ok := unpack(parts[1])
	var claims struct {
		Subject string `json:"sub"`
	}
	if !ok || json.Unmarshal(plain, &claims) != nil {
		return ""
	}
	return claims.Subject
}
