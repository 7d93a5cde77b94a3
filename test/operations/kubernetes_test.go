package operations

import (
	"bytes"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// TestKubernetes decodes the manifest into the types of Kubernetes, which refuses fields that there
// are not.
func TestKubernetes(t *testing.T) {
	b, err := os.ReadFile("../../docs/deploy/kubernetes.yaml")
	require.NoError(t, err)
	documents := bytes.Split(b, []byte("\n---\n"))
	require.Len(t, documents, 2)
	var d appsv1.Deployment
	require.NoError(t, yaml.UnmarshalStrict(documents[0], &d))
	var s corev1.Service
	require.NoError(t, yaml.UnmarshalStrict(documents[1], &s))

	pod := d.Spec.Template
	require.Equal(t, "Deployment", d.Kind)
	require.Equal(t, d.Spec.Selector.MatchLabels, pod.Labels)
	require.Equal(t, "Service", s.Kind)
	require.Equal(t, pod.Labels, s.Spec.Selector)
	ports := make(map[string]bool)
	for _, p := range pod.Spec.Containers[0].Ports {
		ports[p.Name] = true
	}
	require.True(t, ports[s.Spec.Ports[0].TargetPort.StrVal])
	require.True(t, ports[pod.Spec.Containers[0].ReadinessProbe.HTTPGet.Port.StrVal])
}
