// Package pki makes and keeps the secrets that outlive a cluster: certificate authorities, service account keys, the
// key for encryption at rest. They live in one age-encrypted vault file beside the inventory.
package pki

// ClusterSecrets are the secrets of one cluster, all PEM or base64 as they are written to hosts.
type ClusterSecrets struct {
	CA             KeyPair `json:"ca"`             // kubernetes
	FrontProxyCA   KeyPair `json:"frontProxyCA"`   // front-proxy
	EtcdCA         KeyPair `json:"etcdCA"`         // etcd
	ServiceAccount KeyPair `json:"serviceAccount"` // Cert holds the public key
	// EncryptionKey is 32 random bytes, base64, for the secretbox provider of EncryptionConfiguration.
	EncryptionKey string `json:"encryptionKey"`
}

// KeyPair is a PEM certificate (or public key) and its PEM private key.
type KeyPair struct {
	Cert string `json:"cert"`
	Key  string `json:"key"`
}
