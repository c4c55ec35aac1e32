// Package separation checks that the two clusters share no credential: what is stolen in one must open nothing in the other.
package separation

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/catamaran-k8s/catamaran/bootstrap/verify"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify/harvest"
)

// Kind is the document's kind.
const Kind = "separation"

// Run looks through both clusters and compares.
func Run(ctx context.Context, s verify.Subject, service, workload harvest.Cluster) (verify.Document, error) {
	d := verify.New(Kind, "Separation of the clusters", "No authority, key, token or password is common to the service cluster and the workload cluster.", s)
	salt, err := harvest.NewSalt()
	if err != nil {
		return d, err
	}
	sides := make([][]harvest.Credential, 2)
	for i, k := range []harvest.Cluster{service, workload} {
		c := harvest.NewCollector(salt)
		for _, err := range harvest.Everything(ctx, k, c) {
			d.Add(verify.Unknown, k.Name, err.Error())
		}
		sides[i] = c.Credentials()
		d.Fact("looked through in "+k.Name, fmt.Sprintf("%d files, objects and processes of %d nodes", c.Looked(), len(k.Nodes)))
	}
	Compare(&d, sides[0], sides[1])
	d.Judge()
	return d, nil
}

// Compare adds what the two clusters have in common, and what one holds of the other's authorities.
func Compare(d *verify.Document, service, workload []harvest.Credential) {
	census(d, service, workload)
	c := &comparison{d: d, service: service, workload: workload}
	c.keys()
	c.secrets()
	c.authorities()
	c.foreign(workload, "workload", service, "service")
	c.foreign(service, "service", workload, "workload")
	slices.SortFunc(c.allowed, slices.Compare)
	d.Tables = append(d.Tables, verify.Table{
		Title: "Common on purpose", Note: "Certificates are public. The workload cluster must know the authority of the service cluster's door to tell it from another, and of the issuer where people sign in by it.",
		Columns: []string{"what", "in the service cluster", "in the workload cluster"}, Rows: c.allowed,
	})
}

// census tells how much was compared. A side without keys was not looked through, whatever else was said.
func census(d *verify.Document, service, workload []harvest.Credential) {
	t := verify.Table{Title: "What was compared", Columns: []string{"kind", "service", "workload"}}
	for _, k := range []harvest.Kind{
		harvest.ClientCertificate, harvest.PrivateKey, harvest.Certificate, harvest.Token, harvest.Password, harvest.AccessKey, harvest.Opaque,
	} {
		t.Rows = append(t.Rows, []string{string(k), strconv.Itoa(count(service, k)), strconv.Itoa(count(workload, k))})
	}
	d.Tables = append(d.Tables, t)
	for name, side := range map[string][]harvest.Credential{"service": service, "workload": workload} {
		if count(side, harvest.ClientCertificate)+count(side, harvest.PrivateKey) == 0 {
			d.Add(verify.Unknown, name, "not one private key was found there, so there was nothing to compare: is the cluster installed, and does the login reach root on its nodes?")
		}
	}
}

func count(list []harvest.Credential, k harvest.Kind) int {
	n := 0
	for _, c := range list {
		if c.Kind == k {
			n++
		}
	}
	return n
}

type comparison struct {
	d                 *verify.Document
	service, workload []harvest.Credential
	allowed           [][]string
}

// by groups credentials that f accepts by their fingerprints; what has one fingerprint is one, with the places of all.
func by(list []harvest.Credential, f func(harvest.Credential) bool) map[string]harvest.Credential {
	out := map[string]harvest.Credential{}
	for _, c := range list {
		if !f(c) {
			continue
		}
		if had, ok := out[c.Fingerprint]; ok {
			c.Places, c.More = slices.Concat(had.Places, c.Places), had.More+c.More
		}
		out[c.Fingerprint] = c
	}
	return out
}

// common calls f for each fingerprint that both sides have, in order.
func (c *comparison) common(accept func(harvest.Credential) bool, f func(service, workload harvest.Credential)) {
	s, w := by(c.service, accept), by(c.workload, accept)
	for _, print := range slices.Sorted(maps.Keys(s)) {
		if other, ok := w[print]; ok {
			f(s[print], other)
		}
	}
}

func hasKey(c harvest.Credential) bool {
	return c.Kind == harvest.ClientCertificate || c.Kind == harvest.PrivateKey
}

func (c *comparison) keys() {
	c.common(hasKey, func(s, w harvest.Credential) {
		c.d.Add(verify.Breach, describe(s), "the same private key is in both clusters: "+both(s, w)+". Make a new one for one of them.")
	})
}

func (c *comparison) secrets() {
	kind := func(x harvest.Credential) bool {
		return x.Kind == harvest.Token || x.Kind == harvest.Password || x.Kind == harvest.AccessKey || x.Kind == harvest.Opaque
	}
	c.common(kind, func(s, w harvest.Credential) {
		c.d.Add(verify.Breach, describe(s), "the same secret is in both clusters: "+both(s, w)+". Change it in one of them.")
	})
}

// authorities compares the certificates of authorities, with or without their keys.
func (c *comparison) authorities() {
	ca := func(x harvest.Credential) bool { return x.CA }
	c.common(ca, func(s, w harvest.Credential) {
		if hasKey(s) && hasKey(w) {
			return // told already
		}
		if isDoor(s) && isDoorClient(w) || !hasKey(s) && isIssuerTrust(w) {
			c.allowed = append(c.allowed, []string{describe(s), places(s), places(w)})
			return
		}
		c.d.Add(verify.Breach, describe(s), "both clusters know the same authority: "+both(s, w)+". Whoever signs with it is believed in both.")
	})
}

// isDoor says that an authority is known nowhere in the service cluster but at the door.
func isDoor(c harvest.Credential) bool {
	return onlyAt(c, "Secret ingest-gateway/ingest-gateway-door ", "/volumes/kubernetes.io~secret/door/")
}

// isDoorClient says that an authority is known nowhere in the workload cluster but where the door's clients verify the door.
func isDoorClient(c harvest.Credential) bool {
	return onlyAt(c, "/ingest-client ", "/volumes/kubernetes.io~secret/ingest", "/volumes/kubernetes.io~secret/tls/")
}

// onlyAt says that each place has one of the parts.
func onlyAt(c harvest.Credential, parts ...string) bool {
	for _, p := range c.Places {
		if !slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(p, part) }) {
			return false
		}
	}
	return c.More == 0 // what is not listed can not be judged
}

// foreign finds keys that one cluster holds with a certificate signed by an authority of the other, except the certificates
// for the door, which are made for that.
func (c *comparison) foreign(holder []harvest.Credential, holderName string, owner []harvest.Credential, ownerName string) {
	own := by(holder, func(x harvest.Credential) bool { return x.CA })
	for _, h := range holder {
		cert, ok := h.X509()
		if !ok || h.Kind != harvest.ClientCertificate {
			continue
		}
		for _, o := range owner {
			ca, ok := o.X509()
			both, known := own[o.Fingerprint] // told already, unless it is allowed
			if !ok || !o.CA || known && !isIssuerTrust(both) || cert.CheckSignatureFrom(ca) != nil {
				continue
			}
			if ownerName == "service" && isDoor(o) {
				c.allowed = append(c.allowed, []string{"the certificate for the door: " + describe(h), "its authority: " + places(o), places(h)})
				continue
			}
			// the other way round: what clients verify the door by, without its key
			if ownerName == "workload" && isDoorClient(o) && !hasKey(o) && isDoor(h) {
				c.allowed = append(c.allowed, []string{"the door's own certificate: " + describe(h), places(h), "its authority: " + places(o)})
				continue
			}
			c.d.Add(verify.Breach, describe(h), fmt.Sprintf("the %s cluster holds (%s) a key and certificate that an authority of the %s cluster signed: %s (%s). Take it away there.",
				holderName, places(h), ownerName, describe(o), places(o)))
		}
	}
}

func describe(c harvest.Credential) string { return c.String() }

func both(s, w harvest.Credential) string {
	return "service (" + places(s) + ") and workload (" + places(w) + ")"
}

// shown is how many places of one credential are told.
const shown = 4

func places(c harvest.Credential) string {
	n := min(len(c.Places), shown)
	text := strings.Join(c.Places[:n], ", ")
	if more := len(c.Places) - n + c.More; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
