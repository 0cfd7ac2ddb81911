//go:build e2e

package badinput

// cloudRequests are good requests for what lies in clouds.
func cloudRequests() map[string]any {
	type m = map[string]any
	const p, moment = "/api/project/main/", "2020-01-01T00:00:00Z"
	gateway := m{
		"type": "gateway", "name": "gw", "default": nil, "backend": "aws", "region": "x", "instance_type": "t3", "domain": "*.x.com", "public_ip": true,
		"load_balancer": m{"type": "alb"}, "certificate": m{"type": "acm", "arn": "x"}, "replicas": 2, "tags": m{"a": "b"},
	}
	spec := m{"configuration": gateway, "configuration_path": "x"}
	aws := m{
		"type": "aws", "regions": []any{"x"}, "vpc_ids": m{"x": "vpc"}, "public_ips": true, "tags": m{"a": "b"},
		"creds": m{"type": "access_key", "access_key": "a", "secret_key": "b"},
	}
	return m{
		p + "instances/get_instance_health_checks": m{"fleet_name": "f", "instance_num": 0, "after": moment, "before": moment, "limit": 5},
		p + "backends/create":                      aws,
		p + "backends/update":                      aws,
		p + "backends/create_yaml":                 m{"config_yaml": "type: lambda\ncreds: {type: api_key, api_key: x}"},
		p + "backends/update_yaml":                 m{"config_yaml": "type: lambda"},
		p + "backends/delete":                      m{"backends_names": []any{"gcp"}},
		p + "gateways/list":                        m{"include_imported": true},
		p + "gateways/get":                         m{"name": "gw"},
		p + "gateways/get_plan":                    m{"spec": spec},
		p + "gateways/apply":                       m{"plan": m{"spec": spec, "current_resource": nil}, "force": false},
		p + "gateways/create":                      m{"configuration": gateway},
		p + "gateways/delete":                      m{"names": []any{"gw"}},
		p + "gateways/set_default":                 m{"name": "gw", "gateway_project": "main"},
		p + "gateways/set_wildcard_domain":         m{"name": "gw", "wildcard_domain": "x"},
		p + "volumes/get":                          m{"name": "v"},
		p + "volumes/create": m{"configuration": m{
			"type": "volume", "name": "v1", "backend": "kubernetes", "auto_cleanup_duration": "1h", "tags": m{"a": "b"}, "size": "1GB",
			"region": "x", "claim_name": nil, "storage_class_name": "x", "access_modes": []any{"a"}, "read_only": true,
		}},
		p + "volumes/delete": m{"names": []any{"v"}},
		"/api/volumes/list":  m{"project_name": "main", "only_active": true, "prev_created_at": moment, "prev_id": noRef, "limit": 5, "ascending": false},
	}
}
