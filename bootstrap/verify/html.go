package verify

import (
	"bytes"
	"crypto/ed25519"
	_ "embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"strings"
	"time"
)

//go:embed document.html.tmpl
var page string

// htmlTail ends an HTML document: a comment with the signature over every byte before it.
const htmlTail = "<!-- signature algorithm=%s key=%s value=%s -->\n"

// EncodeHTML renders a document for people: one file without outside resources, signed over all of its bytes.
func EncodeHTML(d Document, s Signer) ([]byte, error) {
	d, err := d.normal()
	if err != nil {
		return nil, err
	}
	t, err := template.New("document").Funcs(template.FuncMap{
		"date":  func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		"upper": strings.ToUpper,
	}).Parse(page)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, struct {
		Document
		Key string
	}{d, hex.EncodeToString(s.Public())}); err != nil {
		return nil, err
	}
	return SealHTML(b.Bytes(), s)
}

// SealHTML signs a page of any form, so that CheckHTML accepts it.
func SealHTML(page []byte, s Signer) ([]byte, error) {
	value, err := s.SignMessage(append([]byte(htmlContext), page...))
	if err != nil {
		return nil, fmt.Errorf("sign the document: %w", err)
	}
	return fmt.Appendf(page[:len(page):len(page)], htmlTail, algorithm, hex.EncodeToString(s.Public()), hex.EncodeToString(value)), nil
}

// CheckHTML checks an HTML document's signature; trusted is as for Decode.
func CheckHTML(data []byte, trusted ed25519.PublicKey) error {
	at := bytes.LastIndex(data, []byte("<!-- signature "))
	if at < 0 {
		return fmt.Errorf("%w: it carries no signature", ErrChanged)
	}
	var sig signature
	if n, err := fmt.Sscanf(string(data[at:]), strings.TrimSuffix(htmlTail, "\n"), &sig.Algorithm, &sig.Key, &sig.Value); err != nil || n != 3 {
		return ErrChanged
	}
	if fmt.Sprintf(htmlTail, sig.Algorithm, sig.Key, sig.Value) != string(data[at:]) {
		return ErrChanged // something behind it
	}
	return sig.check(htmlContext, data[:at], trusted)
}
