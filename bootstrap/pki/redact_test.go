package pki

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRedactor(t *testing.T) {
	t.Parallel()
	const password = `hunter"2 it's<secret>&more`
	secrets, err := NewClusterSecrets()
	require.NoError(t, err)
	key := secrets.CA.Key
	asJSON := func(v any) string {
		b, err := json.Marshal(v)
		require.NoError(t, err)
		return string(b)
	}
	base64Of := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	wrap := func(s string, width int) string {
		var b strings.Builder
		for len(s) > width {
			b.WriteString(s[:width] + "\n  ")
			s = s[width:]
		}
		return b.String() + s
	}
	r := NewRedactor()
	require.Equal(t, "nothing is known yet", r.Text("nothing is known yet"))
	r.Add(password)
	r.AddSecrets(secrets)

	for name, text := range map[string]string{
		"a password":             "login with " + password + " failed",
		"a password in JSON":     asJSON(map[string]string{"p": password}),
		"in a URL":               "https://u:" + url.PathEscape(password) + "@host/?p=" + url.QueryEscape(password),
		"in a shell word":        "sh -c 'x=" + strings.ReplaceAll(password, "'", `'\''`) + "'",
		"in base64":              base64Of(password),
		"in base64, in between":  base64Of("user:" + password + ":more"),
		"in base64 of a URL":     base64.URLEncoding.EncodeToString([]byte("x" + password)),
		"a key":                  key,
		"a key, indented":        "  key: |\n    " + strings.ReplaceAll(key, "\n", "\n    "),
		"a key in JSON":          asJSON(map[string]string{"key": key}),
		"a key in JSON in JSON":  asJSON(asJSON(map[string]string{"key": key})),
		"a key in base64":        "client-key-data: " + base64Of(key),
		"base64 wrapped at 76":   wrap(base64Of(key), 76),
		"base64 wrapped at 31":   wrap(base64Of("# a comment\n"+key), 31),
		"a key, wrapped at 10":   wrap(strings.ReplaceAll(key, "\n", ""), 10),
		"a key printed with %q":  fmt.Sprintf("%q", key),
		"the encryption key":     EncryptionOf(secrets),
		"a service account key":  secrets.ServiceAccount.Key,
		"one line of a key":      "oops: " + strings.Split(key, "\n")[1],
		"the same secret, twice": password + password,
	} {
		t.Run(name, func(t *testing.T) {
			got := r.Text(text)
			require.Contains(t, got, redacted)
			requireClean(t, got, password, key, secrets.EncryptionKey, secrets.ServiceAccount.Key)
		})
	}
	for _, public := range []string{secrets.CA.Cert, "-----BEGIN EC PRIVATE KEY-----", "an ordinary line\n\twith spaces", ""} {
		require.Equal(t, public, r.Text(public), "what is public stays")
	}
	require.Equal(t, "a "+redacted+" b", r.Text("a "+password+" b"), "what is around stays")
	require.Equal(t, "before\n"+redacted+"\nafter", r.Text("before\n"+wrap(base64Of(key), 40)+"\nafter"))

	r.Add("short", "", "\n")
	require.Equal(t, "a short word", r.Text("a short word"), "too short to be told from a word")
}

// EncryptionOf is how the key stands in the API server's file.
func EncryptionOf(s ClusterSecrets) string { return "secret: " + s.EncryptionKey }

// requireClean fails when a run of 16 bytes of a secret, or of its base64, is left.
func requireClean(t *testing.T, got string, secrets ...string) {
	t.Helper()
	squeezed, _ := squeeze(got)
	for _, s := range secrets {
		body, _ := squeeze(strings.TrimSuffix(strings.TrimPrefix(s, pemHead(s)), pemTail(strings.TrimSpace(s))+"\n"))
		for _, form := range []string{body, base64.StdEncoding.EncodeToString([]byte(s))} {
			if strings.HasPrefix(s, "-----") && form != body {
				form = form[48:] // the base64 of the head is public
				form = form[:len(form)-48]
			}
			for i := 0; i+16 <= len(form); i++ {
				require.NotContains(t, squeezed, form[i:i+16])
			}
		}
	}
}

func TestRedactorForms(t *testing.T) {
	t.Parallel()
	// every alignment and neighbour of a secret within base64
	const secret = "tok3n-s3cret-value"
	r := NewRedactor()
	r.Add(secret)
	for before := range 7 {
		for after := range 4 {
			text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", before) + secret + strings.Repeat("y", after)))
			got := r.Text(text)
			require.Contains(t, got, redacted, text)
			for i := 0; i+8 <= len(text); i++ {
				part, err := base64.RawStdEncoding.DecodeString(text[i : i+8])
				if err == nil && strings.Contains(secret, string(part)) {
					require.NotContains(t, got, text[i:i+8])
				}
			}
		}
	}
}

func FuzzRedactor(f *testing.F) {
	f.Add("secret-value", "before secret-value after")
	f.Add("multi\nline secret", "multi\\nline secret")
	f.Fuzz(func(t *testing.T, secret, text string) {
		r := NewRedactor()
		r.Add(secret)
		got := r.Text(text + secret + text)
		s := strings.TrimSpace(secret)
		if len(s) >= shortest && !strings.HasPrefix(s, "-----") && !strings.Contains(redacted, s) && strings.Contains(got, s) {
			// only what the replacement itself made together with its surroundings may look like it
			if !strings.Contains(strings.ReplaceAll(got, redacted, ""), s) && !strings.ContainsAny(s, "[]") {
				t.Fatalf("%q is left in %q", s, got)
			}
		}
	})
}
