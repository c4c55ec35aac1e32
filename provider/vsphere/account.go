package vsphere

// Who signs in, and where: the inventory, and the variables that govc reads.

import (
	"encoding/hex"
	"net/url"
	"strings"

	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25/soap"
)

// account is a vCenter and how to sign in to it.
type account struct {
	url  *url.URL
	user *url.Userinfo
	// pin is the SHA-256 of the certificate; nil where an authority or knownHosts vouch for it.
	pin        []byte
	caFiles    string
	knownHosts string
}

// accountOf reads the account of a cluster. The password is in no error.
func accountOf(j job) (account, error) {
	where := j.vs.Server
	if where == "" {
		where = j.getenv("GOVC_URL")
	}
	if where == "" {
		return account{}, permanent("there is no vCenter: set GOVC_URL, or server in the inventory")
	}
	u, err := soap.ParseURL(where)
	if err != nil {
		// the error of the parser shows the text, which may hold a password
		return account{}, permanent("GOVC_URL can not be read as a URL: write https://HOST/sdk or HOST")
	}
	if u.Scheme != "https" {
		return account{}, permanent("the vCenter %s must be reached by https, not %s", u.Host, u.Scheme)
	}
	name, password := u.User.Username(), ""
	if p, ok := u.User.Password(); ok {
		password = p
	}
	for variable, value := range map[string]*string{"GOVC_USERNAME": &name, "GOVC_PASSWORD": &password} {
		v, err := session.Secret(j.getenv(variable)) // as govc: the secret itself or a file
		if err != nil {
			return account{}, permanent("%s names a file that can not be read", variable)
		}
		if v != "" {
			*value = v
		}
	}
	if name == "" || password == "" {
		return account{}, permanent("there is no one to sign in to %s as: set GOVC_USERNAME and GOVC_PASSWORD", u.Host)
	}
	a := account{url: u, user: url.UserPassword(name, password), caFiles: j.vs.CAFile, knownHosts: j.getenv("GOVC_TLS_KNOWN_HOSTS")}
	u.User = nil
	if a.caFiles == "" {
		a.caFiles = j.getenv("GOVC_TLS_CA_CERTS")
	}
	if t := j.vs.Thumbprint; t != "" {
		a.pin, err = hex.DecodeString(strings.ReplaceAll(t, ":", ""))
		if err != nil || len(a.pin) != 32 {
			return account{}, permanent("the thumbprint %s is no SHA-256: 64 hexadecimal digits, with or without colons", t)
		}
	}
	return a, nil
}
