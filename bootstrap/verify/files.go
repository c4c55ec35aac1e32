package verify

import (
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"

	"github.com/catamaran-k8s/catamaran/bootstrap/pki"
)

// Folder is where a site keeps its documents.
func Folder(siteDir string) string { return filepath.Join(siteDir, "verify") }

// Write signs a document and writes it as JSON and as HTML into the site's folder of documents, both 0600. It returns the
// path of the JSON file; the HTML lies beside it.
func Write(siteDir string, d Document, s Signer) (string, error) {
	data, err := Encode(d, s)
	if err != nil {
		return "", err
	}
	html, err := EncodeHTML(d, s)
	if err != nil {
		return "", err
	}
	dir := Folder(siteDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("the site's documents: %w", err)
	}
	stem := filepath.Join(dir, d.Kind+"-"+d.Ended.UTC().Format("20060102T150405Z"))
	if err := pki.WriteFile(stem+".html", html, 0o600); err != nil {
		return "", err
	}
	return stem + ".json", pki.WriteFile(stem+".json", data, 0o600)
}

// Read reads and checks a document's JSON file; trusted is as for Decode.
func Read(path string, trusted ed25519.PublicKey) (Document, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Document{}, err
	}
	d, err := Decode(data, trusted)
	if err != nil {
		return Document{}, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}
