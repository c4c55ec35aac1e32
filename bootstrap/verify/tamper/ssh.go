package tamper

import (
	"context"
	"errors"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// sshTries is how often a login is tried whose connection ends before the key was looked at: sshd drops some of many.
const sshTries = 4

// sshLogin tries a key or password as root and as the site's login user.
func sshLogin(ctx context.Context, s *session) result {
	var auth ssh.AuthMethod
	if key, ok := s.cred.Key(); ok {
		signer, err := ssh.NewSignerFromSigner(key)
		if err != nil {
			return result{outcome: Rejected, detail: "SSH knows no such keys"}
		}
		auth = ssh.PublicKeys(signer)
	} else if _, password, ok := s.cred.Basic(); ok {
		auth = ssh.Password(password)
	} else {
		return result{outcome: Rejected, detail: "not a credential for SSH"}
	}
	users := []string{"root"}
	if s.user != "" && s.user != "root" {
		users = append(users, s.user)
	}
	out := result{outcome: Unclear}
	for _, user := range users {
		if out = s.login(ctx, user, auth); out.outcome == Succeeded {
			return out
		}
	}
	return out
}

func (s *session) login(ctx context.Context, user string, auth ssh.AuthMethod) result {
	for try := 1; ; try++ {
		out, early := s.loginOnce(ctx, user, auth)
		if !early || try == sshTries {
			return out
		}
		select {
		case <-ctx.Done():
			return out
		case <-time.After(time.Duration(try) * 200 * time.Millisecond): // room for others: sshd limits those that are not logged in
		}
	}
}

// loginOnce also says whether the connection ended before the login was answered.
func (s *session) loginOnce(ctx context.Context, user string, auth ssh.AuthMethod) (result, bool) {
	conn, err := s.connect(ctx)
	if err != nil {
		return fromError(err), false
	}
	defer conn.Close() //nolint:errcheck // whatever it was, it is over
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	c, _, _, err := ssh.NewClientConn(conn, s.target.Address, &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{auth}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), //nolint:gosec // an attack checks nothing
	})
	if err == nil {
		_ = c.Close()
		return result{outcome: Succeeded, detail: "logged in as " + user}, false
	}
	if strings.Contains(err.Error(), "unable to authenticate") {
		return result{outcome: Unauthorized, detail: "as " + user}, false
	}
	if ctx.Err() != nil {
		return result{outcome: Unclear, detail: stalled}, false
	}
	out := fromError(errors.Unwrap(err))
	if errors.Unwrap(err) == nil {
		out = fromError(err)
	}
	if out.outcome == Closed {
		out.outcome = Unclear // the key was not looked at
	}
	return out, true
}
