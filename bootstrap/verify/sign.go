package verify

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Signer signs documents. The site's key lies in its vault; whoever holds it can vouch for the site.
type Signer interface {
	Public() ed25519.PublicKey
	// SignMessage returns the 64 byte Ed25519 signature of a message.
	SignMessage(message []byte) ([]byte, error)
}

// NewSigner signs with a key in memory.
func NewSigner(key ed25519.PrivateKey) (Signer, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("the key that signs documents has %d bytes, not %d", len(key), ed25519.PrivateKeySize)
	}
	return keySigner(key), nil
}

type keySigner ed25519.PrivateKey

func (k keySigner) Public() ed25519.PublicKey {
	return ed25519.PrivateKey(k).Public().(ed25519.PublicKey) //nolint:forcetypeassert // documented to be one
}

func (k keySigner) SignMessage(message []byte) ([]byte, error) {
	return ed25519.Sign(ed25519.PrivateKey(k), message), nil
}

// envelope is the JSON file: the document, and who signed exactly these bytes of it.
type envelope struct {
	Document  Document  `json:"document"`
	Signature signature `json:"signature"`
}

type signature struct {
	Algorithm string `json:"algorithm"` // always ed25519
	Key       string `json:"key"`       // public key, hex
	Value     string `json:"value"`     // hex
}

const algorithm = "ed25519"

// What is signed begins with a sentence of its own, so that a signature made for one form never fits another.
const (
	jsonContext = "catamaran verify document, JSON, v1\n"
	htmlContext = "catamaran verify document, HTML, v1\n"
)

// Encode returns the signed JSON file. The bytes are canonical: one document has one form.
func Encode(d Document, s Signer) ([]byte, error) {
	d, err := d.normal()
	if err != nil {
		return nil, err
	}
	message, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	value, err := s.SignMessage(append([]byte(jsonContext), message...))
	if err != nil {
		return nil, fmt.Errorf("sign the document: %w", err)
	}
	return encode(envelope{Document: d, Signature: signature{
		Algorithm: algorithm, Key: hex.EncodeToString(s.Public()), Value: hex.EncodeToString(value),
	}})
}

func encode(e envelope) ([]byte, error) {
	data, err := json.MarshalIndent(e, "", "  ")
	return append(data, '\n'), err
}

// normal brings a document into the one form that is signed.
func (d Document) normal() (Document, error) {
	if d.Ended.IsZero() || d.Verdict == "" {
		return d, errors.New("the document has no end or no verdict: Judge was not called")
	}
	d.APIVersion = APIVersion
	d.Started, d.Ended = d.Started.UTC().Truncate(1e9), d.Ended.UTC().Truncate(1e9)
	if d.Facts == nil {
		d.Facts = []Fact{}
	}
	if d.Findings == nil {
		d.Findings = []Finding{}
	}
	if d.Tables == nil {
		d.Tables = []Table{}
	}
	d.Tables = slices.Clone(d.Tables)
	for at, t := range d.Tables {
		if t.Rows == nil {
			d.Tables[at].Rows = [][]string{}
		}
		for i, row := range t.Rows {
			if len(row) != len(t.Columns) {
				return d, fmt.Errorf("table %q: row %d has %d cells for %d columns", t.Title, i, len(row), len(t.Columns))
			}
		}
	}
	if d.Data != nil {
		var compact bytes.Buffer
		if err := json.Compact(&compact, d.Data); err != nil {
			return d, fmt.Errorf("the document's data: %w", err)
		}
		d.Data = compact.Bytes()
	}
	return d, nil
}

// ErrChanged is a document that is not, byte for byte, what was signed.
var ErrChanged = errors.New("it is not what was signed: at least one byte of it was changed")

// ErrOtherKey is a document that is sound but signed by another key than the expected one.
var ErrOtherKey = errors.New("it was signed by another key than this site's")

// Decode checks a signed JSON file and returns its document. trusted is the site's public key; without one (nil) the
// document is checked against the key that it names, which shows damage but not forgery.
func Decode(data []byte, trusted ed25519.PublicKey) (Document, error) {
	var e envelope
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return Document{}, fmt.Errorf("%w (%w)", ErrChanged, err)
	}
	if e.Document.APIVersion != APIVersion {
		return Document{}, fmt.Errorf("its form is %q, this program reads %s", e.Document.APIVersion, APIVersion)
	}
	normal, err := e.Document.normal()
	if err != nil {
		return Document{}, fmt.Errorf("%w (%w)", ErrChanged, err)
	}
	e.Document = normal
	again, err := encode(e)
	if err != nil || !bytes.Equal(again, data) {
		return Document{}, ErrChanged
	}
	message, err := json.Marshal(e.Document)
	if err != nil {
		return Document{}, err
	}
	return e.Document, e.Signature.check(jsonContext, message, trusted)
}

// check verifies the signature over context and message.
func (s signature) check(context string, message []byte, trusted ed25519.PublicKey) error {
	key, err := hex.DecodeString(s.Key)
	value, err2 := hex.DecodeString(s.Value)
	oneForm := hex.EncodeToString(key) == s.Key && hex.EncodeToString(value) == s.Value // hex has two cases
	if err != nil || err2 != nil || !oneForm || s.Algorithm != algorithm || len(key) != ed25519.PublicKeySize {
		return ErrChanged
	}
	if !ed25519.Verify(key, append([]byte(context), message...), value) {
		return ErrChanged
	}
	if trusted != nil && !trusted.Equal(ed25519.PublicKey(key)) {
		return ErrOtherKey
	}
	return nil
}
