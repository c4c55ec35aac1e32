package guests

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/test/lab/hosts"
)

func TestUserDataSaysWhoMayLogIn(t *testing.T) {
	t.Parallel()
	seed, warnings, err := parse(&Machine{ID: "1", Name: "Web_1", AuthorizedKeys: []string{"ssh-ed25519 PAIR"}, UserData: []byte(`#cloud-config
hostname: wc-cp-1
ssh_deletekeys: true
ssh_keys:
  ed25519_private: PRIVATE
  ed25519_public: PUBLIC
users:
  - name: ops
    groups: adm, systemd-journal
    sudo: ALL=(ALL) NOPASSWD:ALL
    lock_passwd: true
    ssh_authorized_keys: [ssh-ed25519 OWN]
write_files:
  - {path: /etc/a, content: aGVsbG8=, encoding: b64, permissions: '0600'}
runcmd:
  - echo hi
  - [touch, "it's"]
ntp: {enabled: true}
`)})
	require.NoError(t, err)
	assert.Equal(t, "wc-cp-1", seed.hostname)
	assert.Equal(t, hosts.Seed{
		HostKey: "PRIVATE",
		Users: []hosts.SeedUser{{
			Name: "ops", Groups: []string{"adm", "systemd-journal"}, Sudo: []string{everything},
			AuthorizedKeys: []string{"ssh-ed25519 OWN", "ssh-ed25519 PAIR"},
		}},
		Files:    []hosts.SeedFile{{Path: "/etc/a", Mode: 0o600, Content: []byte("hello")}},
		Commands: "#!/bin/sh\necho hi\n'touch' 'it'\\''s'\n",
	}, seed.Seed)
	assert.Equal(t, []string{"user data: ntp is left undone: the lab's stand-in for cloud-init does not know it"}, warnings)
}

func TestWithoutUserDataTheDefaultUserHasTheKeyPair(t *testing.T) {
	t.Parallel()
	seed, warnings, err := parse(&Machine{ID: "1", Name: "Web1", AuthorizedKeys: []string{"ssh-ed25519 PAIR"}})
	require.NoError(t, err)
	assert.Empty(t, warnings)
	assert.Equal(t, "web1", seed.hostname)
	assert.Equal(t, []hosts.SeedUser{{Name: "debian", Sudo: []string{everything}, AuthorizedKeys: []string{"ssh-ed25519 PAIR"}}}, seed.Users)
}

func TestUserDataThatIsWrongIsSaidToBe(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]string{
		"#cloud-config\nusers: {":                                               "user data: yaml",
		"#cloud-config\nusers: [{shell: /bin/sh}]":                              "one has no name",
		"#cloud-config\nwrite_files: [{path: etc/a}]":                           "the path is not absolute",
		"#cloud-config\nwrite_files: [{path: /a, permissions: rw}]":             "permissions",
		"#cloud-config\nwrite_files: [{path: /a, encoding: rot13, content: a}]": `encoding "rot13" is not known`,
	} {
		_, _, err := parse(&Machine{ID: "1", Name: "a", UserData: []byte(data)})
		assert.ErrorContains(t, err, want, data)
	}
	_, warnings, err := parse(&Machine{ID: "1", Name: "a", UserData: []byte("Content-Type: multipart/mixed")})
	require.NoError(t, err)
	assert.Len(t, warnings, 1)
}

func TestHostNamesAreUniqueAndFitAFolder(t *testing.T) {
	t.Parallel()
	a := hostName(&Machine{ID: "0b5e6f1c-aaaa-bbbb-cccc-0123456789ab", Name: "WC.cp_1"})
	assert.Equal(t, "wc-cp-1-456789ab", a)
	assert.NotEqual(t, a, hostName(&Machine{ID: "0b5e6f1c-aaaa-bbbb-cccc-0123456789ac", Name: "WC.cp_1"}))
	assert.Less(t, len(hostName(&Machine{ID: "vm-1", Name: string(make([]byte, 300)) + "x"})), 64)
}

func TestMain(m *testing.M) {
	hosts.Reexec() // supervisors are copies of the test program
	os.Exit(m.Run())
}
