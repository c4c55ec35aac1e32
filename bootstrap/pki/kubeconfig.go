package pki

import (
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// AdminKubeconfig is a kubeconfig with a certificate of the operator's own.
func AdminKubeconfig(ca KeyPair, cluster, server, operator string, notBefore time.Time, validity time.Duration) ([]byte, error) {
	cert, err := AdminCertificate(ca, operator, notBefore, validity)
	if err != nil {
		return nil, err
	}
	c := api.NewConfig()
	c.Clusters[cluster] = &api.Cluster{Server: server, CertificateAuthorityData: []byte(ca.Cert)}
	c.AuthInfos[operator] = &api.AuthInfo{ClientCertificateData: []byte(cert.Cert), ClientKeyData: []byte(cert.Key)}
	name := operator + "@" + cluster
	c.Contexts[name] = &api.Context{Cluster: cluster, AuthInfo: operator}
	c.CurrentContext = name
	return clientcmd.Write(*c)
}
