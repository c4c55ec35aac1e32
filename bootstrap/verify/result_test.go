package verify

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func newKey(t *testing.T) (ed25519.PublicKey, Signer) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	s, err := NewSigner(private)
	require.NoError(t, err)
	return public, s
}

func sample() Document {
	d := New("tamper", "Tamper <proof>", "Nothing can be changed.", Subject{Site: "umea", Operator: "ann", Version: "1.2.3", Inventory: "ab12"})
	d.Fact("attempts", "3")
	d.Add(Note, "https://10.0.0.1", "answers <script>alert(1)</script> & more")
	d.Tables = []Table{{Title: "Attempts", Columns: []string{"a", "b"}, Rows: [][]string{{"1", "2 & 3"}, {"4", "ö\u2028"}}}, {Title: "Empty", Columns: []string{"a"}}}
	d.Data = json.RawMessage(`{"n": [1, 2.50], "html": "<b>"}`)
	d.Judge()
	d.Ended = d.Started.Add(time.Minute)
	return d
}

func TestSignedDocument(t *testing.T) {
	t.Parallel()
	public, s := newKey(t)
	data, err := Encode(sample(), s)
	require.NoError(t, err)
	d, err := Decode(data, public)
	require.NoError(t, err)
	assert.Equal(t, "umea", d.Site)
	assert.Equal(t, Pass, d.Verdict)
	assert.JSONEq(t, `{"n": [1, 2.50], "html": "<b>"}`, string(d.Data))
	_, err = Decode(data, nil)
	require.NoError(t, err, "without a trusted key the document's own is used")

	other, _ := newKey(t)
	_, err = Decode(data, other)
	require.ErrorIs(t, err, ErrOtherKey)

	again, err := Encode(d, s)
	require.NoError(t, err)
	assert.Equal(t, string(data), string(again), "one document has one form")
}

// Every byte, each turned into several others, dropped, and doubled.
func TestEveryChangedByteFails(t *testing.T) {
	t.Parallel()
	public, s := newKey(t)
	data, err := Encode(sample(), s)
	require.NoError(t, err)
	html, err := EncodeHTML(sample(), s)
	require.NoError(t, err)
	require.NoError(t, CheckHTML(html, public))
	for name, c := range map[string]struct {
		data  []byte
		check func([]byte) error
	}{
		"json": {data, func(b []byte) error { _, err := Decode(b, nil); return err }},
		"html": {html, func(b []byte) error { return CheckHTML(b, nil) }},
	} {
		require.NoError(t, c.check(c.data), name)
		for i := range c.data {
			for _, x := range []byte{0x01, 0x20, 0x80} { // 0x20 turns a letter's case, which hex would forgive
				changed := bytes.Clone(c.data)
				changed[i] ^= x
				require.Error(t, c.check(changed), "%s: byte %d xor %#x", name, i, x)
			}
			require.Error(t, c.check(append(bytes.Clone(c.data[:i]), c.data[i+1:]...)), "%s: without byte %d", name, i)
			require.Error(t, c.check(append(append(bytes.Clone(c.data[:i+1]), c.data[i]), c.data[i+1:]...)), "%s: byte %d twice", name, i)
		}
		require.Error(t, c.check(append(bytes.Clone(c.data), ' ')), name)
		require.Error(t, c.check(nil), name)
	}
}

// A signature made for one form does not fit the other, and a re-signed document is told by its key.
func TestForgery(t *testing.T) {
	t.Parallel()
	public, _ := newKey(t)
	_, forger := newKey(t)
	forged, err := Encode(sample(), forger)
	require.NoError(t, err)
	_, err = Decode(forged, public)
	require.ErrorIs(t, err, ErrOtherKey)
	html, err := EncodeHTML(sample(), forger)
	require.NoError(t, err)
	require.ErrorIs(t, CheckHTML(html, public), ErrOtherKey)
}

func TestHTMLIsSelfContainedAndEscaped(t *testing.T) {
	t.Parallel()
	_, s := newKey(t)
	html, err := EncodeHTML(sample(), s)
	require.NoError(t, err)
	text := string(html)
	assert.NotContains(t, text, "<script")
	assert.NotContains(t, text, "src=")
	assert.NotContains(t, text, "href=")
	assert.Contains(t, text, "answers &lt;script&gt;")
	assert.Contains(t, text, `<span class="verdict pass">PASS</span>`)
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		findings []Severity
		want     Verdict
		code     int
	}{
		"nothing":            {nil, Pass, 0},
		"notes":              {[]Severity{Note, Note}, Pass, 0},
		"unknown":            {[]Severity{Note, Unknown}, Unjudged, 4},
		"breach":             {[]Severity{Breach}, Fail, 1},
		"breach and unknown": {[]Severity{Unknown, Breach, Unknown}, Fail, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var d Document
			for _, s := range c.findings {
				d.Add(s, "x", "y")
			}
			d.Judge()
			assert.Equal(t, c.want, d.Verdict)
			assert.Equal(t, c.code, d.Verdict.ExitCode())
		})
	}
}

func TestWrite(t *testing.T) {
	t.Parallel()
	public, s := newKey(t)
	dir := t.TempDir()
	path, err := Write(dir, sample(), s)
	require.NoError(t, err)
	assert.Equal(t, Folder(dir), filepath.Dir(path))
	_, err = Read(path, public)
	require.NoError(t, err)
	entries, err := os.ReadDir(Folder(dir))
	require.NoError(t, err)
	require.Len(t, entries, 2, "JSON and HTML, nothing half written")
	for _, e := range entries {
		st, err := e.Info()
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o600), st.Mode(), e.Name())
	}
	bad := sample()
	bad.Tables[0].Rows[0] = []string{"one cell"}
	_, err = Write(dir, bad, s)
	require.ErrorContains(t, err, `table "Attempts": row 0 has 1 cells for 2 columns`)
	_, err = Encode(New("x", "", "", Subject{}), s)
	require.ErrorContains(t, err, "Judge was not called")
	_, err = NewSigner(nil)
	require.Error(t, err)
}
