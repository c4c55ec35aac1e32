package harvest

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// pair is a name with a value, as configurations have them. secret: everything in this source is one.
type pair struct {
	name, value, place string
	secret             bool
}

// role is what a name says of its value.
type role int

const (
	roleNone role = iota
	roleUser
	rolePassword
	roleAccess
	roleSecret
	roleToken
	roleAuth
)

// roleOf looks at the name in lower case without punctuation.
func roleOf(name string) role {
	plain := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, strings.ToLower(name))
	// the first that fits the end wins
	for _, r := range []struct {
		end  string
		role role
	}{
		{"secretaccesskey", roleSecret}, {"secretkey", roleSecret}, {"accesskeyid", roleAccess}, {"accesskey", roleAccess},
		{"accesstoken", roleToken}, {"access", roleAccess}, {"accessid", roleAccess},
		{"username", roleUser}, {"user", roleUser}, {"login", roleUser},
		{"password", rolePassword}, {"passwd", rolePassword}, {"passphrase", rolePassword}, {"pwd", rolePassword}, {"pass", rolePassword},
		{"tokensecret", roleToken}, {"token", roleToken}, {"apikey", roleToken}, {"secret", roleSecret}, {"auth", roleAuth},
	} {
		if strings.HasSuffix(plain, r.end) {
			return r.role
		}
	}
	return roleNone
}

// noSecret are values that stand where a secret would, and are none.
func noSecret(value string) bool {
	switch strings.ToLower(value) {
	case "true", "false", "null", "none", "string", "object", "<nil>", "required", "optional":
		return true
	}
	return len(value) < minSecret ||
		strings.HasPrefix(value, "/") || strings.HasPrefix(value, "$") || strings.HasPrefix(value, "./") || strings.HasPrefix(value, "<") ||
		strings.Contains(value, "://") || strings.HasPrefix(value, "-----")
}

// pairs puts names and secrets together that stand beside each other: a user with the password that follows or goes before it,
// an access key's ID with its secret. What has no partner is still a secret.
func (c *Collector) pairs(list []pair) {
	used := make([]bool, len(list))
	for i, p := range list {
		r := roleOf(p.name)
		if jwt.MatchString(p.value) || p.secret && len(p.value) < minSecret || !p.secret && noSecret(p.value) {
			continue
		}
		switch r {
		case rolePassword:
			used[i] = true
			if j := partner(list, i, roleUser); j >= 0 {
				used[j] = true
				c.addSecret(Password, p.place, list[j].value, p.value)
			} else {
				c.addSecret(Password, p.place, "", p.value)
			}
		case roleSecret:
			used[i] = true
			if j := partner(list, i, roleAccess); j >= 0 {
				used[j] = true
				c.addSecret(AccessKey, p.place, list[j].value, p.value)
			} else {
				c.addSecret(Opaque, p.place, "", p.value)
			}
		case roleToken:
			used[i] = true
			c.addSecret(Token, p.place, "", p.value)
		case roleAuth:
			if plain, ok := unpack(p.value); ok {
				if user, password, ok := strings.Cut(string(plain), ":"); ok && password != "" {
					used[i] = true
					c.addSecret(Password, p.place, user, password)
				}
			}
		}
	}
	for i, p := range list {
		if r := roleOf(p.name); p.secret && p.name != corev1.ServiceAccountNamespaceKey && !used[i] && len(p.value) >= minSecret && r != roleUser && r != roleAccess {
			c.addSecret(Opaque, p.place, "", p.value)
		}
	}
}

// partner is the nearest pair with a role, at most three away; the one before wins.
func partner(list []pair, i int, want role) int {
	for d := 1; d <= 3; d++ {
		for _, j := range []int{i - d, i + d} {
			if j >= 0 && j < len(list) && roleOf(list[j].name) == want && list[j].value != "" {
				return j
			}
		}
	}
	return -1
}
