CREATE TABLE alembic_version (
  version_num VARCHAR(32) NOT NULL,
  CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
CREATE TABLE "codes" (
  id CHAR(32) NOT NULL,
  repo_id CHAR(32) NOT NULL,
  blob_hash VARCHAR(4000) NOT NULL,
  blob BLOB,
  CONSTRAINT pk_codes PRIMARY KEY (id),
  CONSTRAINT fk_codes_repo_id_repos FOREIGN KEY(repo_id) REFERENCES repos (id) ON DELETE CASCADE,
  CONSTRAINT uq_codes_repo_id_blob_hash UNIQUE (repo_id, blob_hash)
);
CREATE TABLE pools (
  id CHAR(32) NOT NULL,
  name VARCHAR(50) NOT NULL,
  created_at DATETIME NOT NULL,
  deleted BOOLEAN NOT NULL,
  deleted_at DATETIME,
  project_id CHAR(32) NOT NULL,
  CONSTRAINT pk_pools PRIMARY KEY (id),
  CONSTRAINT fk_pools_project_id_projects FOREIGN KEY(project_id) REFERENCES projects (id) ON DELETE CASCADE
);
CREATE TABLE placement_groups (
  id CHAR(32) NOT NULL,
  name VARCHAR(100) NOT NULL,
  project_id CHAR(32) NOT NULL,
  fleet_id CHAR(32) NOT NULL,
  fleet_deleted BOOLEAN NOT NULL,
  created_at DATETIME NOT NULL,
  last_processed_at DATETIME NOT NULL,
  deleted BOOLEAN NOT NULL,
  deleted_at DATETIME,
  configuration TEXT NOT NULL,
  provisioning_data TEXT, lock_expires_at DATETIME, lock_token CHAR(32), lock_owner VARCHAR(100),
  CONSTRAINT pk_placement_groups PRIMARY KEY (id),
  CONSTRAINT fk_placement_groups_fleet_id_fleets FOREIGN KEY(fleet_id) REFERENCES fleets (id),
  CONSTRAINT fk_placement_groups_project_id_projects FOREIGN KEY(project_id) REFERENCES projects (id) ON DELETE CASCADE
);
CREATE TABLE job_metrics_points (
  id CHAR(32) NOT NULL,
  job_id CHAR(32) NOT NULL,
  timestamp_micro BIGINT NOT NULL,
  cpu_usage_micro BIGINT NOT NULL,
  memory_usage_bytes BIGINT NOT NULL,
  memory_working_set_bytes BIGINT NOT NULL,
  gpus_memory_usage_bytes TEXT NOT NULL,
  gpus_util_percent TEXT NOT NULL,
  CONSTRAINT pk_job_metrics_points PRIMARY KEY (id),
  CONSTRAINT fk_job_metrics_points_job_id_jobs FOREIGN KEY(job_id) REFERENCES jobs (id)
);
CREATE TABLE repo_creds (
  id CHAR(32) NOT NULL,
  repo_id CHAR(32) NOT NULL,
  user_id CHAR(32) NOT NULL,
  creds VARCHAR(10000) NOT NULL,
  CONSTRAINT pk_repo_creds PRIMARY KEY (id),
  CONSTRAINT fk_repo_creds_repo_id_repos FOREIGN KEY(repo_id) REFERENCES repos (id) ON DELETE CASCADE,
  CONSTRAINT fk_repo_creds_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE,
  CONSTRAINT uq_repo_creds_repo_id_user_id UNIQUE (repo_id, user_id)
);
CREATE TABLE "volumes_attachments" (
  volume_id CHAR(32) NOT NULL,
  instance_id CHAR(32) NOT NULL,
  attachment_data TEXT,
  CONSTRAINT pk_volumes_attachments PRIMARY KEY (volume_id, instance_id),
  CONSTRAINT fk_volumes_attachments_volume_id_volumes FOREIGN KEY(volume_id) REFERENCES volumes (id),
  CONSTRAINT fk_volumes_attachments_instace_id_instances FOREIGN KEY(instance_id) REFERENCES instances (id)
);
CREATE TABLE job_prometheus_metrics (
  job_id CHAR(32) NOT NULL,
  collected_at DATETIME NOT NULL,
  text TEXT NOT NULL,
  CONSTRAINT pk_job_prometheus_metrics PRIMARY KEY (job_id),
  CONSTRAINT fk_job_prometheus_metrics_job_id_jobs FOREIGN KEY(job_id) REFERENCES jobs (id)
);
CREATE TABLE "backends" (
  id CHAR(32) NOT NULL,
  project_id CHAR(32) NOT NULL,
  type VARCHAR(100) NOT NULL,
  config VARCHAR(20000) NOT NULL,
  auth VARCHAR(20000) NOT NULL, source_config VARCHAR(20000), source_auth VARCHAR(20000),
  CONSTRAINT pk_backends PRIMARY KEY (id),
  CONSTRAINT fk_backends_project_id_projects FOREIGN KEY(project_id) REFERENCES projects (id) ON DELETE CASCADE
);
CREATE TABLE "projects" (
  id CHAR(32) NOT NULL,
  name VARCHAR(50) NOT NULL,
  ssh_private_key TEXT NOT NULL,
  ssh_public_key TEXT NOT NULL,
  default_gateway_id CHAR(32),
  owner_id CHAR(32) NOT NULL,
  deleted BOOLEAN NOT NULL,
  default_pool_id CHAR(32),
  created_at DATETIME NOT NULL,
  is_public BOOLEAN DEFAULT 0 NOT NULL, original_name VARCHAR(50), templates_repo TEXT,
  CONSTRAINT pk_projects PRIMARY KEY (id),
  CONSTRAINT fk_projects_default_pool_id_pools FOREIGN KEY(default_pool_id) REFERENCES pools (id) ON DELETE SET NULL,
  CONSTRAINT fk_projects_default_gateway_id_gateways FOREIGN KEY(default_gateway_id) REFERENCES gateways (id) ON DELETE SET NULL,
  CONSTRAINT uq_projects_name UNIQUE (name),
  CONSTRAINT fk_projects_owner_id_users FOREIGN KEY(owner_id) REFERENCES users (id) ON DELETE CASCADE
);
CREATE TABLE file_archives (
  id CHAR(32) NOT NULL,
  user_id CHAR(32) NOT NULL,
  blob_hash TEXT NOT NULL,
  blob BLOB,
  CONSTRAINT pk_file_archives PRIMARY KEY (id),
  CONSTRAINT fk_file_archives_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE,
  CONSTRAINT uq_file_archives_user_id_blob_hash UNIQUE (user_id, blob_hash)
);
CREATE TABLE secrets (
  id CHAR(32) NOT NULL,
  project_id CHAR(32) NOT NULL,
  created_at DATETIME NOT NULL,
  updated_at DATETIME NOT NULL,
  name VARCHAR(200) NOT NULL,
  value VARCHAR NOT NULL,
  CONSTRAINT pk_secrets PRIMARY KEY (id),
  CONSTRAINT fk_secrets_project_id_projects FOREIGN KEY(project_id) REFERENCES projects (id) ON DELETE CASCADE,
  CONSTRAINT uq_secrets_project_id_name UNIQUE (project_id, name)
);
CREATE TABLE probes (
  id CHAR(32) NOT NULL,
  name VARCHAR(100) NOT NULL,
  job_id CHAR(32) NOT NULL,
  probe_num INTEGER NOT NULL,
  due DATETIME NOT NULL,
  success_streak BIGINT NOT NULL,
  active BOOLEAN NOT NULL,
  CONSTRAINT pk_probes PRIMARY KEY (id, job_id),
  CONSTRAINT fk_probes_job_id_jobs FOREIGN KEY(job_id) REFERENCES jobs (id),
  CONSTRAINT uq_probes_job_id_probe_num UNIQUE (job_id, probe_num)
);
CREATE TABLE instance_health_checks (
  id CHAR(32) NOT NULL,
  instance_id CHAR(32) NOT NULL,
  collected_at DATETIME NOT NULL,
  status VARCHAR(100) NOT NULL,
  response TEXT NOT NULL,
  CONSTRAINT pk_instance_health_checks PRIMARY KEY (id),
  CONSTRAINT fk_instance_health_checks_instance_id_instances FOREIGN KEY(instance_id) REFERENCES instances (id)
);
CREATE TABLE "members" (
  id CHAR(32) NOT NULL,
  project_id CHAR(32) NOT NULL,
  user_id CHAR(32) NOT NULL,
  project_role VARCHAR(100) NOT NULL,
  member_num INTEGER,
  CONSTRAINT pk_members PRIMARY KEY (id),
  CONSTRAINT fk_members_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE,
  CONSTRAINT fk_members_project_id_projects FOREIGN KEY(project_id) REFERENCES projects (id) ON DELETE CASCADE
);
CREATE TABLE "repos" (
  id CHAR(32) NOT NULL,
  project_id CHAR(32) NOT NULL,
  name VARCHAR(100) NOT NULL,
  type VARCHAR(100) NOT NULL,
  info TEXT NOT NULL,
  creds VARCHAR(5000),
  CONSTRAINT pk_repos PRIMARY KEY (id),
  CONSTRAINT uq_repos_project_id_name UNIQUE (project_id, name),
  CONSTRAINT fk_repos_project_id_projects FOREIGN KEY(project_id) REFERENCES projects (id) ON DELETE CASCADE
);
CREATE TABLE "fleets" (
  id CHAR(32) NOT NULL,
  name VARCHAR(100) NOT NULL,
  project_id CHAR(32) NOT NULL,
  created_at DATETIME NOT NULL,
  last_processed_at DATETIME NOT NULL,
  deleted BOOLEAN NOT NULL,
  deleted_at DATETIME,
  status VARCHAR(100) NOT NULL,
  status_message TEXT,
  spec TEXT NOT NULL, consolidation_attempt INTEGER DEFAULT '0' NOT NULL, last_consolidated_at DATETIME, lock_expires_at DATETIME, lock_token CHAR(32), lock_owner VARCHAR(100), current_master_instance_id CHAR(32),
  CONSTRAINT pk_fleets PRIMARY KEY (id),
  CONSTRAINT fk_fleets_project_id_projects FOREIGN KEY(project_id) REFERENCES projects (id) ON DELETE CASCADE
);
CREATE INDEX ix_fleets_status ON fleets (status);
CREATE TABLE compute_groups (
  id CHAR(32) NOT NULL,
  project_id CHAR(32) NOT NULL,
  fleet_id CHAR(32) NOT NULL,
  created_at DATETIME NOT NULL,
  status VARCHAR(100) NOT NULL,
  last_processed_at DATETIME NOT NULL,
  deleted BOOLEAN NOT NULL,
  deleted_at DATETIME,
  provisioning_data TEXT NOT NULL,
  first_termination_retry_at DATETIME,
  last_termination_retry_at DATETIME, lock_expires_at DATETIME, lock_token CHAR(32), lock_owner VARCHAR(100),
  CONSTRAINT pk_compute_groups PRIMARY KEY (id),
  CONSTRAINT fk_compute_groups_fleet_id_fleets FOREIGN KEY(fleet_id) REFERENCES fleets (id),
  CONSTRAINT fk_compute_groups_project_id_projects FOREIGN KEY(project_id) REFERENCES projects (id) ON DELETE CASCADE
);
CREATE TABLE "users" (
  id CHAR(32) NOT NULL,
  name VARCHAR(50) NOT NULL,
  token VARCHAR(200) NOT NULL,
  global_role VARCHAR(100) NOT NULL,
  projects_quota INTEGER NOT NULL,
  email VARCHAR(200),
  token_hash VARCHAR(2000) NOT NULL,
  active BOOLEAN NOT NULL,
  created_at DATETIME NOT NULL,
  ssh_private_key TEXT,
  ssh_public_key TEXT,
  deleted BOOLEAN DEFAULT 0 NOT NULL,
  original_name VARCHAR(50),
  CONSTRAINT pk_users PRIMARY KEY (id),
  CONSTRAINT uq_users_token_hash UNIQUE (token_hash),
  CONSTRAINT uq_users_name UNIQUE (name),
  CONSTRAINT uq_users_token UNIQUE (token)
);
CREATE TABLE events (
  id CHAR(32) NOT NULL,
  message TEXT NOT NULL,
  recorded_at DATETIME NOT NULL,
  actor_user_id CHAR(32),
  CONSTRAINT pk_events PRIMARY KEY (id),
  CONSTRAINT fk_events_actor_user_id_users FOREIGN KEY(actor_user_id) REFERENCES users (id) ON DELETE CASCADE
);
CREATE INDEX ix_events_actor_user_id ON events (actor_user_id);
CREATE INDEX ix_events_recorded_at ON events (recorded_at);
CREATE INDEX ix_users_email ON users (email);
CREATE INDEX ix_compute_groups_pipeline_fetch_q ON compute_groups (last_processed_at ASC) WHERE (status NOT IN ('TERMINATED'));
CREATE INDEX ix_placement_groups_pipeline_fetch_q ON placement_groups (last_processed_at ASC) WHERE deleted = 0;
CREATE TABLE "volumes" (
  id CHAR(32) NOT NULL,
  name VARCHAR(100) NOT NULL,
  project_id CHAR(32) NOT NULL,
  created_at DATETIME NOT NULL,
  last_processed_at DATETIME NOT NULL,
  deleted BOOLEAN NOT NULL,
  deleted_at DATETIME,
  status VARCHAR(100) NOT NULL,
  status_message TEXT,
  configuration TEXT NOT NULL,
  volume_provisioning_data TEXT,
  volume_attachment_data TEXT,
  user_id CHAR(32) NOT NULL,
  last_job_processed_at DATETIME,
  to_be_deleted BOOLEAN DEFAULT 0 NOT NULL,
  auto_cleanup_enabled BOOLEAN,
  lock_expires_at DATETIME,
  lock_token CHAR(32),
  lock_owner VARCHAR(100),
  CONSTRAINT pk_volumes PRIMARY KEY (id),
  CONSTRAINT fk_volumes_project_id_projects FOREIGN KEY(project_id) REFERENCES projects (id) ON DELETE CASCADE,
  CONSTRAINT fk_volumes_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);
CREATE INDEX ix_volumes_status ON volumes (status);
CREATE INDEX ix_volumes_pipeline_fetch_q ON volumes (last_processed_at ASC) WHERE deleted = 0;
CREATE INDEX ix_fleets_pipeline_fetch_q ON fleets (last_processed_at ASC) WHERE deleted = 0;
CREATE TABLE exported_fleets (
  id CHAR(32) NOT NULL,
  export_id CHAR(32) NOT NULL,
  fleet_id CHAR(32) NOT NULL,
  CONSTRAINT pk_exported_fleets PRIMARY KEY (id),
  CONSTRAINT fk_exported_fleets_export_id_exports FOREIGN KEY(export_id) REFERENCES exports (id) ON DELETE CASCADE,
  CONSTRAINT fk_exported_fleets_fleet_id_fleets FOREIGN KEY(fleet_id) REFERENCES fleets (id) ON DELETE CASCADE,
  CONSTRAINT uq_exported_fleets_export_id_fleet_id UNIQUE (export_id, fleet_id)
);
CREATE INDEX ix_exported_fleets_export_id ON exported_fleets (export_id);
CREATE INDEX ix_exported_fleets_fleet_id ON exported_fleets (fleet_id);
CREATE TABLE imports (
  id CHAR(32) NOT NULL,
  project_id CHAR(32) NOT NULL,
  export_id CHAR(32) NOT NULL,
  created_at DATETIME NOT NULL,
  CONSTRAINT pk_imports PRIMARY KEY (id),
  CONSTRAINT fk_imports_export_id_exports FOREIGN KEY(export_id) REFERENCES exports (id) ON DELETE CASCADE,
  CONSTRAINT fk_imports_project_id_projects FOREIGN KEY(project_id) REFERENCES projects (id) ON DELETE CASCADE,
  CONSTRAINT uq_imports_project_id_export_id UNIQUE (project_id, export_id)
);
CREATE INDEX ix_imports_export_id ON imports (export_id);
CREATE INDEX ix_imports_project_id ON imports (project_id);
CREATE INDEX ix_fleets_current_master_instance_id ON fleets (current_master_instance_id);
CREATE TABLE user_public_keys (
  id CHAR(32) NOT NULL,
  created_at DATETIME NOT NULL,
  user_id CHAR(32) NOT NULL,
  name VARCHAR(100) NOT NULL,
  type VARCHAR(100) NOT NULL,
  fingerprint VARCHAR(100) NOT NULL,
  "key" TEXT NOT NULL,
  CONSTRAINT pk_user_public_keys PRIMARY KEY (id),
  CONSTRAINT fk_user_public_keys_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE,
  CONSTRAINT uq_user_public_keys_user_id_fingerprint UNIQUE (user_id, fingerprint)
);
CREATE INDEX ix_job_metrics_points_job_id ON job_metrics_points (job_id);
CREATE TABLE service_router_worker_sync (
  id CHAR(32) NOT NULL,
  run_id CHAR(32) NOT NULL,
  deleted BOOLEAN DEFAULT 0 NOT NULL,
  created_at DATETIME NOT NULL,
  last_processed_at DATETIME NOT NULL,
  lock_expires_at DATETIME,
  lock_token CHAR(32),
  lock_owner VARCHAR(100),
  CONSTRAINT pk_service_router_worker_sync PRIMARY KEY (id),
  CONSTRAINT fk_service_router_worker_sync_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
);
CREATE INDEX ix_service_router_worker_sync_pipeline_fetch_q ON service_router_worker_sync (last_processed_at ASC) WHERE deleted = 0;
CREATE UNIQUE INDEX ix_service_router_worker_sync_run_id ON service_router_worker_sync (run_id);
CREATE TABLE "runs" (
  id CHAR(32) NOT NULL,
  project_id CHAR(32) NOT NULL,
  repo_id CHAR(32) NOT NULL,
  user_id CHAR(32) NOT NULL,
  submitted_at DATETIME NOT NULL,
  run_name VARCHAR(100) NOT NULL,
  status VARCHAR(100) NOT NULL,
  run_spec TEXT NOT NULL,
  deleted BOOLEAN NOT NULL,
  last_processed_at DATETIME NOT NULL,
  gateway_id CHAR(32),
  termination_reason VARCHAR(100),
  service_spec TEXT,
  fleet_id CHAR(32),
  resubmission_attempt INTEGER NOT NULL,
  priority INTEGER NOT NULL,
  deployment_num INTEGER NOT NULL,
  desired_replica_count INTEGER NOT NULL,
  next_triggered_at DATETIME,
  desired_replica_counts TEXT,
  lock_expires_at DATETIME,
  lock_token CHAR(32),
  lock_owner VARCHAR(100),
  skip_min_processing_interval BOOLEAN DEFAULT 0 NOT NULL,
  CONSTRAINT pk_runs PRIMARY KEY (id),
  CONSTRAINT fk_runs_fleet_id_fleets FOREIGN KEY(fleet_id) REFERENCES fleets (id),
  CONSTRAINT fk_runs_project_id_projects FOREIGN KEY(project_id) REFERENCES projects (id) ON DELETE CASCADE,
  CONSTRAINT fk_runs_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE,
  CONSTRAINT fk_runs_repo_id_repos FOREIGN KEY(repo_id) REFERENCES repos (id) ON DELETE CASCADE,
  CONSTRAINT fk_runs_gateway_id_gateways FOREIGN KEY(gateway_id) REFERENCES gateways (id) ON DELETE SET NULL
);
CREATE INDEX ix_submitted_at_id ON runs (submitted_at, id);
CREATE INDEX ix_runs_status ON runs (status);
CREATE INDEX ix_runs_pipeline_fetch_q ON runs (last_processed_at) WHERE (status NOT IN ('TERMINATED', 'FAILED', 'DONE'));
CREATE TABLE "instances" (
  id CHAR(32) NOT NULL,
  name VARCHAR(50) NOT NULL,
  created_at DATETIME NOT NULL,
  deleted BOOLEAN NOT NULL,
  deleted_at DATETIME,
  project_id CHAR(32) NOT NULL,
  pool_id CHAR(32),
  status VARCHAR(100) NOT NULL,
  started_at DATETIME,
  finished_at DATETIME,
  termination_policy VARCHAR(100),
  termination_idle_time INTEGER NOT NULL,
  backend VARCHAR(100),
  backend_data TEXT,
  region VARCHAR(2000),
  price FLOAT,
  job_provisioning_data TEXT,
  offer TEXT,
  last_job_processed_at DATETIME,
  termination_deadline DATETIME,
  termination_reason VARCHAR(4000),
  health_status VARCHAR(4000),
  profile TEXT,
  requirements TEXT,
  instance_configuration TEXT,
  last_retry_at DATETIME,
  remote_connection_info TEXT,
  unreachable BOOLEAN NOT NULL,
  instance_num INTEGER NOT NULL,
  fleet_id CHAR(32),
  last_processed_at DATETIME NOT NULL,
  first_termination_retry_at DATETIME,
  last_termination_retry_at DATETIME,
  total_blocks INTEGER,
  busy_blocks INTEGER NOT NULL,
  health VARCHAR(100) NOT NULL,
  compute_group_id CHAR(32),
  termination_reason_message VARCHAR(4000),
  lock_expires_at DATETIME,
  lock_token CHAR(32),
  lock_owner VARCHAR(100),
  provisioning_job_id CHAR(32),
  skip_min_processing_interval BOOLEAN DEFAULT 0 NOT NULL,
  CONSTRAINT pk_instances PRIMARY KEY (id),
  CONSTRAINT fk_instances_compute_group_id_compute_groups FOREIGN KEY(compute_group_id) REFERENCES compute_groups (id),
  CONSTRAINT fk_instances_pool_id_pools FOREIGN KEY(pool_id) REFERENCES pools (id),
  CONSTRAINT fk_instances_project_id_projects FOREIGN KEY(project_id) REFERENCES projects (id) ON DELETE CASCADE,
  CONSTRAINT fk_instances_fleet_id_fleets FOREIGN KEY(fleet_id) REFERENCES fleets (id)
);
CREATE INDEX ix_instances_fleet_id ON instances (fleet_id);
CREATE INDEX ix_instances_pipeline_fetch_q ON instances (last_processed_at) WHERE deleted = 0;
CREATE INDEX ix_instances_status ON instances (status);
CREATE TABLE exported_gateways (
  id CHAR(32) NOT NULL,
  export_id CHAR(32) NOT NULL,
  gateway_id CHAR(32) NOT NULL,
  CONSTRAINT pk_exported_gateways PRIMARY KEY (id),
  CONSTRAINT fk_exported_gateways_export_id_exports FOREIGN KEY(export_id) REFERENCES exports (id) ON DELETE CASCADE,
  CONSTRAINT fk_exported_gateways_gateway_id_gateways FOREIGN KEY(gateway_id) REFERENCES gateways (id) ON DELETE CASCADE,
  CONSTRAINT uq_exported_gateways_export_id_gateway_id UNIQUE (export_id, gateway_id)
);
CREATE INDEX ix_exported_gateways_export_id ON exported_gateways (export_id);
CREATE INDEX ix_exported_gateways_gateway_id ON exported_gateways (gateway_id);
CREATE TABLE "gateways" (
  id CHAR(32) NOT NULL,
  name VARCHAR(100) NOT NULL,
  region VARCHAR(100) NOT NULL,
  wildcard_domain VARCHAR(100),
  created_at DATETIME NOT NULL,
  project_id CHAR(32) NOT NULL,
  backend_id CHAR(32) NOT NULL,
  gateway_compute_id CHAR(32),
  configuration TEXT,
  status VARCHAR(100) NOT NULL,
  status_message TEXT,
  last_processed_at DATETIME NOT NULL,
  to_be_deleted BOOLEAN DEFAULT 0 NOT NULL,
  lock_expires_at DATETIME,
  lock_token CHAR(32),
  lock_owner VARCHAR(100),
  forbid_new_services BOOLEAN DEFAULT 0 NOT NULL, desired_replica_count INTEGER, replica_scale_attempt INTEGER DEFAULT '0' NOT NULL, last_replica_scale_attempt_at DATETIME, last_update_at DATETIME, hostname VARCHAR(255), backend_data TEXT,
  CONSTRAINT pk_gateways PRIMARY KEY (id),
  CONSTRAINT fk_gateways_gateway_compute_id_gateway_computes FOREIGN KEY(gateway_compute_id) REFERENCES gateway_computes (id) ON DELETE CASCADE,
  CONSTRAINT fk_gateways_backend_id_backends FOREIGN KEY(backend_id) REFERENCES backends (id) ON DELETE CASCADE,
  CONSTRAINT uq_gateways_project_id_name UNIQUE (project_id, name),
  CONSTRAINT fk_gateways_project_id_projects FOREIGN KEY(project_id) REFERENCES projects (id) ON DELETE CASCADE
);
CREATE TABLE "exports" (
  id CHAR(32) NOT NULL,
  name VARCHAR(100) NOT NULL,
  project_id CHAR(32) NOT NULL,
  created_at DATETIME NOT NULL,
  is_global BOOLEAN DEFAULT 0 NOT NULL,
  CONSTRAINT pk_exports PRIMARY KEY (id),
  CONSTRAINT fk_exports_project_id_projects FOREIGN KEY(project_id) REFERENCES projects (id) ON DELETE CASCADE,
  CONSTRAINT uq_exports_project_id_name UNIQUE (project_id, name)
);
CREATE INDEX ix_exports_project_id ON exports (project_id);
CREATE TABLE "event_targets" (
  id CHAR(32) NOT NULL,
  event_id CHAR(32) NOT NULL,
  entity_project_id CHAR(32),
  entity_type VARCHAR(100) NOT NULL,
  entity_id CHAR(32) NOT NULL,
  entity_name VARCHAR(200) NOT NULL,
  entity_run_id CHAR(32),
  entity_fleet_id CHAR(32), entity_gateway_id CHAR(32),
  CONSTRAINT pk_event_targets PRIMARY KEY (id),
  CONSTRAINT fk_event_targets_entity_run_id_runs FOREIGN KEY(entity_run_id) REFERENCES runs (id) ON DELETE CASCADE,
  CONSTRAINT fk_event_targets_entity_project_id_projects FOREIGN KEY(entity_project_id) REFERENCES projects (id) ON DELETE CASCADE,
  CONSTRAINT fk_event_targets_event_id_events FOREIGN KEY(event_id) REFERENCES events (id) ON DELETE CASCADE,
  CONSTRAINT fk_event_targets_entity_fleet_id_fleets FOREIGN KEY(entity_fleet_id) REFERENCES fleets (id) ON DELETE CASCADE
);
CREATE INDEX ix_event_targets_event_id ON event_targets (event_id);
CREATE INDEX ix_event_targets_entity_run_id ON event_targets (entity_run_id);
CREATE INDEX ix_event_targets_entity_id ON event_targets (entity_id);
CREATE INDEX ix_event_targets_entity_type ON event_targets (entity_type);
CREATE INDEX ix_event_targets_entity_project_id ON event_targets (entity_project_id);
CREATE INDEX ix_event_targets_entity_fleet_id ON event_targets (entity_fleet_id);
CREATE INDEX ix_backends_project_id ON backends (project_id);
CREATE INDEX ix_members_project_id ON members (project_id);
CREATE INDEX ix_instances_compute_group_id ON instances (compute_group_id);
CREATE INDEX ix_runs_fleet_id ON runs (fleet_id);
CREATE TABLE "jobs" (
  id CHAR(32) NOT NULL,
  project_id CHAR(32) NOT NULL,
  run_id CHAR(32) NOT NULL,
  run_name VARCHAR(100) NOT NULL,
  job_num INTEGER NOT NULL,
  job_name VARCHAR(100) NOT NULL,
  submission_num INTEGER NOT NULL,
  submitted_at DATETIME NOT NULL,
  last_processed_at DATETIME NOT NULL,
  status VARCHAR(100) NOT NULL,
  termination_reason VARCHAR(100),
  job_spec_data TEXT NOT NULL,
  job_provisioning_data TEXT,
  runner_timestamp BIGINT,
  remove_at DATETIME,
  used_instance_id CHAR(32),
  replica_num INTEGER NOT NULL,
  termination_reason_message TEXT,
  instance_assigned BOOLEAN NOT NULL,
  job_runtime_data TEXT,
  volumes_detached_at DATETIME,
  instance_id CHAR(32),
  inactivity_secs INTEGER,
  exit_status INTEGER,
  disconnected_at DATETIME,
  deployment_num INTEGER NOT NULL,
  registered BOOLEAN DEFAULT 0 NOT NULL,
  fleet_id CHAR(32),
  waiting_master_job BOOLEAN,
  lock_expires_at DATETIME,
  lock_token CHAR(32),
  lock_owner VARCHAR(100),
  graceful_termination_attempts INTEGER,
  image_pull_progress TEXT,
  skip_min_processing_interval BOOLEAN DEFAULT 0 NOT NULL,
  ready BOOLEAN DEFAULT 0 NOT NULL, running_at DATETIME,
  CONSTRAINT pk_jobs PRIMARY KEY (id),
  CONSTRAINT fk_jobs_fleet_id_fleets FOREIGN KEY(fleet_id) REFERENCES fleets (id),
  CONSTRAINT fk_jobs_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE,
  CONSTRAINT fk_jobs_instance_id_instances FOREIGN KEY(instance_id) REFERENCES instances (id) ON DELETE CASCADE,
  CONSTRAINT fk_jobs_project_id_projects FOREIGN KEY(project_id) REFERENCES projects (id) ON DELETE CASCADE
);
CREATE INDEX ix_jobs_pipeline_fetch_q ON jobs (last_processed_at) WHERE (status NOT IN ('TERMINATED', 'ABORTED', 'FAILED', 'DONE'));
CREATE INDEX ix_jobs_status ON jobs (status);
CREATE INDEX ix_jobs_run_id ON jobs (run_id);
CREATE INDEX ix_jobs_instance_id ON jobs (instance_id);
CREATE TABLE service_registrations (
  id CHAR(32) NOT NULL,
  run_id CHAR(32) NOT NULL,
  gateway_replica_id CHAR(32) NOT NULL,
  is_registered BOOLEAN NOT NULL,
  register_attempt INTEGER NOT NULL,
  register_status_message TEXT,
  unregister_attempt INTEGER NOT NULL,
  unregister_status_message TEXT,
  CONSTRAINT pk_service_registrations PRIMARY KEY (id),
  CONSTRAINT fk_service_registrations_gateway_replica_id_gateway_computes FOREIGN KEY(gateway_replica_id) REFERENCES gateway_computes (id) ON DELETE CASCADE,
  CONSTRAINT fk_service_registrations_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE,
  CONSTRAINT uq_service_registrations_run_id_gateway_replica_id UNIQUE (run_id, gateway_replica_id)
);
CREATE INDEX ix_service_registrations_gateway_replica_id ON service_registrations (gateway_replica_id);
CREATE INDEX ix_service_registrations_run_id ON service_registrations (run_id);
CREATE TABLE service_replica_registrations (
  id CHAR(32) NOT NULL,
  job_id CHAR(32) NOT NULL,
  gateway_replica_id CHAR(32) NOT NULL,
  is_registered BOOLEAN NOT NULL,
  register_attempt INTEGER NOT NULL,
  register_status_message TEXT,
  unregister_attempt INTEGER NOT NULL,
  unregister_status_message TEXT,
  CONSTRAINT pk_service_replica_registrations PRIMARY KEY (id),
  CONSTRAINT fk_service_replica_registrations_gateway_replica_id_gateway_computes FOREIGN KEY(gateway_replica_id) REFERENCES gateway_computes (id) ON DELETE CASCADE,
  CONSTRAINT fk_service_replica_registrations_job_id_jobs FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE,
  CONSTRAINT uq_service_replica_registrations_job_id_gateway_replica_id UNIQUE (job_id, gateway_replica_id)
);
CREATE INDEX ix_service_replica_registrations_gateway_replica_id ON service_replica_registrations (gateway_replica_id);
CREATE INDEX ix_service_replica_registrations_job_id ON service_replica_registrations (job_id);
CREATE TABLE "gateway_computes" (
  id CHAR(32) NOT NULL,
  created_at DATETIME NOT NULL,
  instance_id VARCHAR(100),
  ip_address VARCHAR(100),
  region VARCHAR(100),
  backend_id CHAR(32) NOT NULL,
  ssh_private_key TEXT NOT NULL,
  ssh_public_key TEXT NOT NULL,
  deleted BOOLEAN DEFAULT 0 NOT NULL,
  active BOOLEAN NOT NULL,
  hostname VARCHAR(100),
  configuration TEXT,
  backend_data TEXT,
  app_updated_at DATETIME NOT NULL,
  replica_num INTEGER DEFAULT '0' NOT NULL,
  gateway_id CHAR(32),
  last_processed_at DATETIME NOT NULL,
  status VARCHAR(100) NOT NULL,
  status_message TEXT,
  lock_expires_at DATETIME,
  lock_token CHAR(32),
  lock_owner VARCHAR(100),
  scale_in BOOLEAN DEFAULT 0 NOT NULL,
  skip_min_processing_interval BOOLEAN DEFAULT 0 NOT NULL,
  name VARCHAR(100) NOT NULL,
  CONSTRAINT pk_gateway_computes PRIMARY KEY (id),
  CONSTRAINT fk_gateway_computes_gateway_id_gateways FOREIGN KEY(gateway_id) REFERENCES gateways (id) ON DELETE SET NULL,
  CONSTRAINT fk_gateway_computes_backend_id_backends FOREIGN KEY(backend_id) REFERENCES backends (id) ON DELETE CASCADE
);
CREATE INDEX ix_gateway_computes_pipeline_fetch_q ON gateway_computes (last_processed_at) WHERE deleted = 0;
CREATE INDEX ix_event_targets_entity_gateway_id ON event_targets (entity_gateway_id);
CREATE INDEX ix_instance_health_checks_instance_id_collected_at ON instance_health_checks (instance_id, collected_at);
INSERT INTO "alembic_version" VALUES ('40f19bea9d2a');
INSERT INTO "backends" VALUES ('d5093b65cd61452390817cc497bd809d', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'AWS', '{"type":"aws","regions":["us-east-1"],"vpc_name":null,"vpc_ids":null,"default_vpcs":null,"public_ips":null,"iam_instance_profile":null,"tags":{"a":"b"},"os_images":null,"experimental_instance_types":null}', 'enc:aes:k1:B35Fr3pDPzZa75ZaOO2CpujpJ1eoQnyQ6+CoepaEtVjL2p0A95moLC2U8xEv/0i6cTKmWplPXM05rdVcH3eCUyKfvE6Os3dVEWHL6OJrXeq+gcfWt5qm7Im7U9LraQh38Jo=', '{"type": "aws", "regions": ["us-east-1"], "vpc_name": null, "vpc_ids": null, "default_vpcs": null, "public_ips": null, "iam_instance_profile": null, "tags": {"a": "b"}, "os_images": null, "experimental_instance_types": null}', 'enc:aes:k1:x3O9LYdSO0GBeDdlxHwTKBmQwgDbgnIFIRwwcNqUhVTTiZi1mv7RGTyEb8sUL8bXCjkG7EsE1f/SS5uaGV5Bb/V14EghKHC8GgDS9iyuLub8PM6ZMjPcZveMbcXjZ2oJPAVs9Uox1g==');
INSERT INTO "event_targets" VALUES ('00f2c6a8ac764b1387b2a1766e69f638', 'c0a254de79a14d8abd47a2aa76331dfe', NULL, 'USER', 'e338c79dbd4949b9820ef6bf1025d074', 'ann', NULL, NULL, NULL);
INSERT INTO "event_targets" VALUES ('0323d48cc4394fc1aa7f93cc45e2f054', 'b4fbb931090a4d35b2571b0ed8a3bf0a', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'RUN', '922bf3a65d2644e3a1ded75908d2ef7e', 'dev', '922bf3a65d2644e3a1ded75908d2ef7e', NULL, NULL);
INSERT INTO "event_targets" VALUES ('0bff39ce498a46c3ab13f4c53786ded4', 'fdb6cf768f0946e9baa25609cae91332', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'JOB', 'b9f0526c0f27448494d4d9c1f84233a1', 'dev-0-0', '922bf3a65d2644e3a1ded75908d2ef7e', NULL, NULL);
INSERT INTO "event_targets" VALUES ('0db22ba1d9aa4157a35503b2204616f7', '77c1d54f464745dda7a9e40ffddf591b', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'JOB', '5a583e36ca4446c88d8b5554c8efc06f', 'later-0-0', 'cde43c6ce00f4f1fa000d50bb0764902', NULL, NULL);
INSERT INTO "event_targets" VALUES ('0de9a08c13ea4fa6b08331c8b1adcd0b', '3a261c42a6744c1b92b6e582e07798bf', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'RUN', 'cde43c6ce00f4f1fa000d50bb0764902', 'later', 'cde43c6ce00f4f1fa000d50bb0764902', NULL, NULL);
INSERT INTO "event_targets" VALUES ('20c1e44aad9b4044b3d1a9348cf9d6ec', '3ad83dd3bad14a8f8d27cb6791a61f56', '7f780842688c43ac902c7f54bed80a0f', 'PROJECT', '7f780842688c43ac902c7f54bed80a0f', 'research', NULL, NULL, NULL);
INSERT INTO "event_targets" VALUES ('26ef23e2bc104fe0b1e375127f8999cb', '68c5222783e347d882b9c8d70a6f668b', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'JOB', 'bca4e12599754cc789890d6f0d5db26d', 'train-0-0', 'ba88a51dd84c48628c76290a9b0f9d8c', NULL, NULL);
INSERT INTO "event_targets" VALUES ('273583eff8cd4af6ab91767ddd296e2b', '73f59133e176455bb61288ff88a0ae75', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'RUN', 'f7288d50a9814c1d8376979810c8866d', 'serve', 'f7288d50a9814c1d8376979810c8866d', NULL, NULL);
INSERT INTO "event_targets" VALUES ('347faa5aca184da9844c4bb07af5bbd3', '9fb836bd62ee4c768e8521ec1615358d', 'e41223e4939c4b06ac073a4316285761', 'PROJECT', 'e41223e4939c4b06ac073a4316285761', 'old', NULL, NULL, NULL);
INSERT INTO "event_targets" VALUES ('3ab7be9ec535401295e25f7efed499b6', '09d3db2657dd4f069a2a2c6c2b6fa9fc', NULL, 'USER', '69c615138a9c4ccdbf5d164bf5f69539', 'admin', NULL, NULL, NULL);
INSERT INTO "event_targets" VALUES ('3b48c4d738224c44917dda410240bf58', 'cb077884d8934324a1249a1b5f64743e', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'RUN', 'ba88a51dd84c48628c76290a9b0f9d8c', 'train', 'ba88a51dd84c48628c76290a9b0f9d8c', NULL, NULL);
INSERT INTO "event_targets" VALUES ('45583509027d4eef990569dfa9689d5e', '4afa3ed998704eae8b1ec10faad69902', 'e41223e4939c4b06ac073a4316285761', 'PROJECT', 'e41223e4939c4b06ac073a4316285761', 'old', NULL, NULL, NULL);
INSERT INTO "event_targets" VALUES ('47a7fd9160614753822f8540f2abd873', '8bef8e91ddbc4ccf90e8e06e51998f80', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'RUN', 'a1bcc978480e44ad866665246724167d', 'train', 'a1bcc978480e44ad866665246724167d', NULL, NULL);
INSERT INTO "event_targets" VALUES ('4e2555fe21a84b549d9f879745e5cb47', '7ead76f11a1d4dabb225781ce539dd4c', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'VOLUME', '9948ac6799cd4d969131a77300571770', 'disk', NULL, NULL, NULL);
INSERT INTO "event_targets" VALUES ('537a3ab7a23844e9b0e76b30beecf1f4', '2423b9f30d6a4f7e920ad6cbc69cd0f6', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'JOB', 'df90c2afba7b45d3a472b7518a8a6378', 'train-0-0', 'a1bcc978480e44ad866665246724167d', NULL, NULL);
INSERT INTO "event_targets" VALUES ('53b9b307466d47ed91649a38c1273775', '16b06765082b4b42a6b6de302a4840ae', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'RUN', 'a1bcc978480e44ad866665246724167d', 'train', 'a1bcc978480e44ad866665246724167d', NULL, NULL);
INSERT INTO "event_targets" VALUES ('55c6d41fb9eb467a9292d7bc76e7e4fb', '7285078387b34203b38bff50bc891d01', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'RUN', 'a1bcc978480e44ad866665246724167d', 'train', 'a1bcc978480e44ad866665246724167d', NULL, NULL);
INSERT INTO "event_targets" VALUES ('565b3c0109b2482eb9e8e9a55132a43c', 'bbb6b6b285c04334ad3cea0a6fe39c3e', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'JOB', '9f9ad3f578d840f0a7b962693226dd95', 'serve-0-0', 'f7288d50a9814c1d8376979810c8866d', NULL, NULL);
INSERT INTO "event_targets" VALUES ('5a0be694d42a4932858cf19a80a811fd', '3cae2a10e1d34893a8f044e3c3918a57', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'JOB', 'b9f0526c0f27448494d4d9c1f84233a1', 'dev-0-0', '922bf3a65d2644e3a1ded75908d2ef7e', NULL, NULL);
INSERT INTO "event_targets" VALUES ('63ffd82fef3b4fc0bd0f0c0fa967b162', 'bf27a78029d74c18841665542c88f922', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'SECRET', 'e933d2011f7a43879cb10bf37d8c6548', 'wandb', NULL, NULL, NULL);
INSERT INTO "event_targets" VALUES ('647b7777362d4a42a213f69b266dac5f', 'd9026015569b4703b72daa6a45ac97d8', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'JOB', 'df90c2afba7b45d3a472b7518a8a6378', 'train-0-0', 'a1bcc978480e44ad866665246724167d', NULL, NULL);
INSERT INTO "event_targets" VALUES ('67ff4651f7a54211813f9ffc86a9dd3f', 'd0f1a0df96b74286babe253b1acbb350', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'JOB', '5a583e36ca4446c88d8b5554c8efc06f', 'later-0-0', 'cde43c6ce00f4f1fa000d50bb0764902', NULL, NULL);
INSERT INTO "event_targets" VALUES ('6997ed7f195342c59203250dff2d82ca', '8f7ac974185846b6b9ca5ea1e4f0f286', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'JOB', '9f9ad3f578d840f0a7b962693226dd95', 'serve-0-0', 'f7288d50a9814c1d8376979810c8866d', NULL, NULL);
INSERT INTO "event_targets" VALUES ('71d4bbba7f754571a7186f90ae7313fd', '72cad0baafd547abb2b223faf909e025', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'RUN', 'f7288d50a9814c1d8376979810c8866d', 'serve', 'f7288d50a9814c1d8376979810c8866d', NULL, NULL);
INSERT INTO "event_targets" VALUES ('71f36bbebfc149e8a5390103d9faa8e2', '70cbdc5b6a3a4272aa8c17fc1a008e7f', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'RUN', '922bf3a65d2644e3a1ded75908d2ef7e', 'dev', '922bf3a65d2644e3a1ded75908d2ef7e', NULL, NULL);
INSERT INTO "event_targets" VALUES ('788c1926f2ff4131ab1207582e106daf', '445c90c0639644198c320d7432cd5748', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'VOLUME', '9948ac6799cd4d969131a77300571770', 'disk', NULL, NULL, NULL);
INSERT INTO "event_targets" VALUES ('7a3555e86eff4564874dce16140f32cf', '2055f027c89c4c7f90d88c42f15414cd', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'SECRET', '675cb9f28f3f4f029bfd53c11a9f3b58', 'hf', NULL, NULL, NULL);
INSERT INTO "event_targets" VALUES ('8fb9d033ef67444b8645c2290faba906', 'c0429ed75d55467c81932887496d1340', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'RUN', 'cde43c6ce00f4f1fa000d50bb0764902', 'later', 'cde43c6ce00f4f1fa000d50bb0764902', NULL, NULL);
INSERT INTO "event_targets" VALUES ('912b9e3959bb484aa71b9a9ce4583cd7', 'f523eb488ff9401284ebbed8204029cf', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'JOB', '5a583e36ca4446c88d8b5554c8efc06f', 'later-0-0', 'cde43c6ce00f4f1fa000d50bb0764902', NULL, NULL);
INSERT INTO "event_targets" VALUES ('91a4b45753714c309b6bab2737d6bfb1', '8a9ed78ec702476ba645ff9b463daf77', NULL, 'USER', '922cae4f12ee4c83b1b21fdf19308a83', 'gone', NULL, NULL, NULL);
INSERT INTO "event_targets" VALUES ('92dd44310ca044c187e90c7df892233b', '637f2a098ea34384ae36713537f2afe2', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'RUN', 'f7288d50a9814c1d8376979810c8866d', 'serve', 'f7288d50a9814c1d8376979810c8866d', NULL, NULL);
INSERT INTO "event_targets" VALUES ('abc67ccf7b5848cab10ba9d77b0ca0c9', 'f067cd23fd214601910dfed1a6e7de0e', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'RUN', 'ba88a51dd84c48628c76290a9b0f9d8c', 'train', 'ba88a51dd84c48628c76290a9b0f9d8c', NULL, NULL);
INSERT INTO "event_targets" VALUES ('afa1d41449074443a494aa519453ae92', '870f11f3baf84e5297c807d1b3df7f4d', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'JOB', 'df90c2afba7b45d3a472b7518a8a6378', 'train-0-0', 'a1bcc978480e44ad866665246724167d', NULL, NULL);
INSERT INTO "event_targets" VALUES ('b479e5ea22304ed69e0468c8397462d5', '8e892fab010445f69b85cfc65131e221', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'VOLUME', 'f053826c95464b5a9130ca6d23b79adb', 'data', NULL, NULL, NULL);
INSERT INTO "event_targets" VALUES ('b4d37df37de24cca96c5e6031253df2c', 'b0fa674869c3413382e8fe6268c83bbc', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'JOB', 'bca4e12599754cc789890d6f0d5db26d', 'train-0-0', 'ba88a51dd84c48628c76290a9b0f9d8c', NULL, NULL);
INSERT INTO "event_targets" VALUES ('b99126ad75f34304a975c695f32999ce', 'd6702fecc2e54d55a074349d68d501e2', NULL, 'USER', '922cae4f12ee4c83b1b21fdf19308a83', 'gone', NULL, NULL, NULL);
INSERT INTO "event_targets" VALUES ('c5663bfe54fe43398235b68cffb80a25', '4d19bbf59a5c4c6d89f67bd10c0549dd', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'RUN', 'f7288d50a9814c1d8376979810c8866d', 'serve', 'f7288d50a9814c1d8376979810c8866d', NULL, NULL);
INSERT INTO "event_targets" VALUES ('c61f785b288a4d0a91463406dc422435', 'af2eb21edabe486981c1a91e0d55a74a', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'FLEET', '49f99c7b79024f779e1d1d050cb4ea3d', 'on-prem', NULL, '49f99c7b79024f779e1d1d050cb4ea3d', NULL);
INSERT INTO "event_targets" VALUES ('cb25d950e9364865ac47dc546f2eaad1', 'ec2e24a01cee437f81a5d3b3f452d4cc', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'RUN', 'cde43c6ce00f4f1fa000d50bb0764902', 'later', 'cde43c6ce00f4f1fa000d50bb0764902', NULL, NULL);
INSERT INTO "event_targets" VALUES ('d19d35a7590546cca8c9bc55dae566fb', '494ff4c8481e47eea73b9f162f0f9d8e', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'VOLUME', 'f053826c95464b5a9130ca6d23b79adb', 'data', NULL, NULL, NULL);
INSERT INTO "event_targets" VALUES ('d371e9daa66e4d2cb04026a418beaa17', '6b7e2109e2864f93908fc0f4d44c705a', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'RUN', 'ba88a51dd84c48628c76290a9b0f9d8c', 'train', 'ba88a51dd84c48628c76290a9b0f9d8c', NULL, NULL);
INSERT INTO "event_targets" VALUES ('d4273ef05d72409796b591f1f3f21156', 'a284104821f040738aacc091b6f0e5b5', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'JOB', 'b9f0526c0f27448494d4d9c1f84233a1', 'dev-0-0', '922bf3a65d2644e3a1ded75908d2ef7e', NULL, NULL);
INSERT INTO "event_targets" VALUES ('ddd249327f44402082f8409c9c2a4be0', 'e0931575100d4b71b5e4610a29c45f16', NULL, 'USER', 'e338c79dbd4949b9820ef6bf1025d074', 'ann', NULL, NULL, NULL);
INSERT INTO "event_targets" VALUES ('df26234fd5274b148799b2b53656566e', '621aff7a4c89414e93acf93c7f15c7a1', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'RUN', 'a1bcc978480e44ad866665246724167d', 'train', 'a1bcc978480e44ad866665246724167d', NULL, NULL);
INSERT INTO "event_targets" VALUES ('e1a2354ed8cf4706913eee3fb8aec8c6', 'f2d23ae3621847909a4973b54fa07aa3', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'INSTANCE', 'dda37d1fb6784473903775eefe650878', 'on-prem-0', NULL, '49f99c7b79024f779e1d1d050cb4ea3d', NULL);
INSERT INTO "event_targets" VALUES ('e2e59d56715e428facdf101755631021', '1f38d91ad297488aaba9099a424ea91f', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'JOB', '9f9ad3f578d840f0a7b962693226dd95', 'serve-0-0', 'f7288d50a9814c1d8376979810c8866d', NULL, NULL);
INSERT INTO "event_targets" VALUES ('e378190f70bd41c0a1fb89d0a9db1614', '2a04792794744eb599145c4643a33dbc', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'FLEET', 'e4315c5e328b43379cb129b45938f857', 'cloud', NULL, 'e4315c5e328b43379cb129b45938f857', NULL);
INSERT INTO "event_targets" VALUES ('e6df5c0492db45bfaa8816c675773aa8', '927a747bc5974226b00db8836b2e1926', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'RUN', '922bf3a65d2644e3a1ded75908d2ef7e', 'dev', '922bf3a65d2644e3a1ded75908d2ef7e', NULL, NULL);
INSERT INTO "event_targets" VALUES ('e9ff34c058004b0bbf5501bbd3c1cc16', '7908cd61643b43a193fdd16471b9913b', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'JOB', 'bca4e12599754cc789890d6f0d5db26d', 'train-0-0', 'ba88a51dd84c48628c76290a9b0f9d8c', NULL, NULL);
INSERT INTO "event_targets" VALUES ('ea79c28caa8040bc81fc1deafc326a3c', 'd531caf2c4b6442cbec9086f8e755683', NULL, 'USER', '518c7108ac9b45b6b09bc902bbc546e0', 'bob', NULL, NULL, NULL);
INSERT INTO "event_targets" VALUES ('edbc4280991b4612b750c4e6d8d71fc0', 'd982698175d54ccc90f2d229534fa144', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'RUN', 'f7288d50a9814c1d8376979810c8866d', 'serve', 'f7288d50a9814c1d8376979810c8866d', NULL, NULL);
INSERT INTO "event_targets" VALUES ('f9f3e6fdbb974f67944691b84589462d', 'a4de696182f344229504ddea2bc33bd0', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'PROJECT', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'main', NULL, NULL, NULL);
INSERT INTO "event_targets" VALUES ('fb5cc847c59c413b99d4d6559c9750c7', '8d78c8c1376b492bb2ee2d27a158d582', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'RUN', 'cde43c6ce00f4f1fa000d50bb0764902', 'later', 'cde43c6ce00f4f1fa000d50bb0764902', NULL, NULL);
INSERT INTO "event_targets" VALUES ('fb84132eab2c49c0b675a3307f237ab5', '55f07b824385447189b581662909b097', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'INSTANCE', 'd64daa1c4d2d44dd8da60cf117a2318d', 'on-prem-1', NULL, '49f99c7b79024f779e1d1d050cb4ea3d', NULL);
INSERT INTO "events" VALUES ('09d3db2657dd4f069a2a2c6c2b6fa9fc', 'User created', '2026-11-26 05:41:07.994920', '69c615138a9c4ccdbf5d164bf5f69539');
INSERT INTO "events" VALUES ('16b06765082b4b42a6b6de302a4840ae', 'Run deleted', '2026-11-26 05:43:21.429894', '69c615138a9c4ccdbf5d164bf5f69539');
INSERT INTO "events" VALUES ('1f38d91ad297488aaba9099a424ea91f', 'Job status changed TERMINATING -> FAILED', '2026-11-26 05:43:07.653371', NULL);
INSERT INTO "events" VALUES ('2055f027c89c4c7f90d88c42f15414cd', 'Secret created', '2026-11-26 05:43:01.778487', '69c615138a9c4ccdbf5d164bf5f69539');
INSERT INTO "events" VALUES ('2423b9f30d6a4f7e920ad6cbc69cd0f6', 'Job status changed SUBMITTED -> TERMINATING. Termination reason: FAILED_TO_START_DUE_TO_NO_CAPACITY (Fleet is at capacity)', '2026-11-26 05:43:02.589438', NULL);
INSERT INTO "events" VALUES ('2a04792794744eb599145c4643a33dbc', 'Fleet created. Status: ACTIVE', '2026-11-26 05:43:02.292086', '69c615138a9c4ccdbf5d164bf5f69539');
INSERT INTO "events" VALUES ('3a261c42a6744c1b92b6e582e07798bf', 'Run submitted. Status: SUBMITTED', '2026-11-26 05:43:02.811746', '69c615138a9c4ccdbf5d164bf5f69539');
INSERT INTO "events" VALUES ('3ad83dd3bad14a8f8d27cb6791a61f56', 'Project created', '2026-11-26 05:43:01.588022', '69c615138a9c4ccdbf5d164bf5f69539');
INSERT INTO "events" VALUES ('3cae2a10e1d34893a8f044e3c3918a57', 'Job status changed SUBMITTED -> TERMINATING. Termination reason: FAILED_TO_START_DUE_TO_NO_CAPACITY (Fleet is at capacity)', '2026-11-26 05:43:02.822441', NULL);
INSERT INTO "events" VALUES ('445c90c0639644198c320d7432cd5748', 'Volume created. Status: SUBMITTED', '2026-11-26 05:46:50.196109', '69c615138a9c4ccdbf5d164bf5f69539');
INSERT INTO "events" VALUES ('494ff4c8481e47eea73b9f162f0f9d8e', 'Volume created. Status: SUBMITTED', '2026-11-26 05:43:02.892370', '69c615138a9c4ccdbf5d164bf5f69539');
INSERT INTO "events" VALUES ('4afa3ed998704eae8b1ec10faad69902', 'Project deleted', '2026-11-26 05:43:01.651143', '69c615138a9c4ccdbf5d164bf5f69539');
INSERT INTO "events" VALUES ('4d19bbf59a5c4c6d89f67bd10c0549dd', 'Run submitted. Status: SUBMITTED', '2026-11-26 05:43:02.597068', '69c615138a9c4ccdbf5d164bf5f69539');
INSERT INTO "events" VALUES ('55f07b824385447189b581662909b097', 'Instance created on fleet submission. Status: PENDING', '2026-11-26 05:43:02.257782', '69c615138a9c4ccdbf5d164bf5f69539');
INSERT INTO "events" VALUES ('621aff7a4c89414e93acf93c7f15c7a1', 'Run submitted. Status: SUBMITTED', '2026-11-26 05:43:02.369875', '69c615138a9c4ccdbf5d164bf5f69539');
INSERT INTO "events" VALUES ('637f2a098ea34384ae36713537f2afe2', 'Service assigned to run without a gateway', '2026-11-26 05:43:02.608709', NULL);
INSERT INTO "events" VALUES ('68c5222783e347d882b9c8d70a6f668b', 'Job status changed SUBMITTED -> TERMINATING. Termination reason: FAILED_TO_START_DUE_TO_NO_CAPACITY (Fleet is at capacity)', '2026-11-26 05:43:21.651951', NULL);
INSERT INTO "events" VALUES ('6b7e2109e2864f93908fc0f4d44c705a', 'Run status changed TERMINATING -> FAILED', '2026-11-26 05:43:54.053458', NULL);
INSERT INTO "events" VALUES ('70cbdc5b6a3a4272aa8c17fc1a008e7f', 'Run submitted. Status: SUBMITTED', '2026-11-26 05:43:02.733403', '69c615138a9c4ccdbf5d164bf5f69539');
INSERT INTO "events" VALUES ('7285078387b34203b38bff50bc891d01', 'Run status changed SUBMITTED -> TERMINATING. Termination reason: JOB_FAILED', '2026-11-26 05:43:12.743164', NULL);
INSERT INTO "events" VALUES ('72cad0baafd547abb2b223faf909e025', 'Run deleted', '2026-11-26 05:43:21.356439', '69c615138a9c4ccdbf5d164bf5f69539');
INSERT INTO "events" VALUES ('73f59133e176455bb61288ff88a0ae75', 'Run status changed SUBMITTED -> TERMINATING. Termination reason: JOB_FAILED', '2026-11-26 05:43:12.705180', NULL);
INSERT INTO "events" VALUES ('77c1d54f464745dda7a9e40ffddf591b', 'Job status changed SUBMITTED -> TERMINATING. Termination reason: FAILED_TO_START_DUE_TO_NO_CAPACITY (Fleet is at capacity)', '2026-11-26 05:43:03.011648', NULL);
INSERT INTO "events" VALUES ('7908cd61643b43a193fdd16471b9913b', 'Job created on run submission. Status: SUBMITTED', '2026-11-26 05:43:21.454405', NULL);
INSERT INTO "events" VALUES ('7ead76f11a1d4dabb225781ce539dd4c', 'Volume status changed SUBMITTED -> ACTIVE', '2026-11-26 05:46:50.757406', NULL);
INSERT INTO "events" VALUES ('870f11f3baf84e5297c807d1b3df7f4d', 'Job status changed TERMINATING -> FAILED', '2026-11-26 05:43:07.637984', NULL);
INSERT INTO "events" VALUES ('8a9ed78ec702476ba645ff9b463daf77', 'User created', '2026-11-26 05:43:01.443412', '69c615138a9c4ccdbf5d164bf5f69539');
INSERT INTO "events" VALUES ('8bef8e91ddbc4ccf90e8e06e51998f80', 'Run status changed TERMINATING -> FAILED', '2026-11-26 05:43:20.619175', NULL);
INSERT INTO "events" VALUES ('8d78c8c1376b492bb2ee2d27a158d582', 'Run status changed PENDING -> TERMINATING. Termination reason: STOPPED_BY_USER', '2026-11-26 05:43:21.308865', '69c615138a9c4ccdbf5d164bf5f69539');
INSERT INTO "events" VALUES ('8e892fab010445f69b85cfc65131e221', 'Volume status changed SUBMITTED -> FAILED (Backend not available)', '2026-11-26 05:43:03.008222', NULL);
INSERT INTO "events" VALUES ('8f7ac974185846b6b9ca5ea1e4f0f286', 'Job created on run submission. Status: SUBMITTED', '2026-11-26 05:43:02.610618', NULL);
INSERT INTO "events" VALUES ('927a747bc5974226b00db8836b2e1926', 'Run status changed TERMINATING -> FAILED', '2026-11-26 05:43:20.679931', NULL);
INSERT INTO "events" VALUES ('9fb836bd62ee4c768e8521ec1615358d', 'Project created', '2026-11-26 05:43:01.632180', '69c615138a9c4ccdbf5d164bf5f69539');
INSERT INTO "events" VALUES ('a284104821f040738aacc091b6f0e5b5', 'Job status changed TERMINATING -> FAILED', '2026-11-26 05:43:07.663915', NULL);
INSERT INTO "events" VALUES ('a4de696182f344229504ddea2bc33bd0', 'Project created', '2026-11-26 05:41:08.166658', '69c615138a9c4ccdbf5d164bf5f69539');
INSERT INTO "events" VALUES ('af2eb21edabe486981c1a91e0d55a74a', 'Fleet created. Status: ACTIVE', '2026-11-26 05:43:02.254829', '69c615138a9c4ccdbf5d164bf5f69539');
INSERT INTO "events" VALUES ('b0fa674869c3413382e8fe6268c83bbc', 'Job status changed TERMINATING -> FAILED', '2026-11-26 05:43:26.984743', NULL);
INSERT INTO "events" VALUES ('b4fbb931090a4d35b2571b0ed8a3bf0a', 'Run status changed SUBMITTED -> TERMINATING. Termination reason: JOB_FAILED', '2026-11-26 05:43:12.716756', NULL);
INSERT INTO "events" VALUES ('bbb6b6b285c04334ad3cea0a6fe39c3e', 'Job status changed SUBMITTED -> TERMINATING. Termination reason: FAILED_TO_START_DUE_TO_NO_CAPACITY (Fleet is at capacity)', '2026-11-26 05:43:02.727022', NULL);
INSERT INTO "events" VALUES ('bf27a78029d74c18841665542c88f922', 'Secret created', '2026-11-26 05:43:01.802079', '69c615138a9c4ccdbf5d164bf5f69539');
INSERT INTO "events" VALUES ('c0429ed75d55467c81932887496d1340', 'Run status changed TERMINATING -> TERMINATED', '2026-11-26 05:43:21.334801', NULL);
INSERT INTO "events" VALUES ('c0a254de79a14d8abd47a2aa76331dfe', 'User created', '2026-11-26 05:43:01.111987', '69c615138a9c4ccdbf5d164bf5f69539');
INSERT INTO "events" VALUES ('cb077884d8934324a1249a1b5f64743e', 'Run status changed SUBMITTED -> TERMINATING. Termination reason: JOB_FAILED', '2026-11-26 05:43:28.689246', NULL);
INSERT INTO "events" VALUES ('d0f1a0df96b74286babe253b1acbb350', 'Job status changed TERMINATING -> FAILED', '2026-11-26 05:43:07.629801', NULL);
INSERT INTO "events" VALUES ('d531caf2c4b6442cbec9086f8e755683', 'User created', '2026-11-26 05:43:01.313603', '69c615138a9c4ccdbf5d164bf5f69539');
INSERT INTO "events" VALUES ('d6702fecc2e54d55a074349d68d501e2', 'User deleted', '2026-11-26 05:43:01.474513', '69c615138a9c4ccdbf5d164bf5f69539');
INSERT INTO "events" VALUES ('d9026015569b4703b72daa6a45ac97d8', 'Job created on run submission. Status: SUBMITTED', '2026-11-26 05:43:02.373829', NULL);
INSERT INTO "events" VALUES ('d982698175d54ccc90f2d229534fa144', 'Run status changed TERMINATING -> FAILED', '2026-11-26 05:43:20.650505', NULL);
INSERT INTO "events" VALUES ('e0931575100d4b71b5e4610a29c45f16', 'Public key added. Fingerprint: SHA256:tB+J17alZ25nzeN196I5oKi7AYctjllXAs2rDFxL1fA', '2026-11-26 05:43:01.748956', 'e338c79dbd4949b9820ef6bf1025d074');
INSERT INTO "events" VALUES ('ec2e24a01cee437f81a5d3b3f452d4cc', 'Run status changed SUBMITTED -> PENDING', '2026-11-26 05:43:12.726099', NULL);
INSERT INTO "events" VALUES ('f067cd23fd214601910dfed1a6e7de0e', 'Run submitted. Status: SUBMITTED', '2026-11-26 05:43:21.448135', '69c615138a9c4ccdbf5d164bf5f69539');
INSERT INTO "events" VALUES ('f2d23ae3621847909a4973b54fa07aa3', 'Instance created on fleet submission. Status: PENDING', '2026-11-26 05:43:02.256503', '69c615138a9c4ccdbf5d164bf5f69539');
INSERT INTO "events" VALUES ('f523eb488ff9401284ebbed8204029cf', 'Job created on run submission. Status: SUBMITTED', '2026-11-26 05:43:02.813574', NULL);
INSERT INTO "events" VALUES ('fdb6cf768f0946e9baa25609cae91332', 'Job created on run submission. Status: SUBMITTED', '2026-11-26 05:43:02.734867', NULL);
INSERT INTO "fleets" VALUES ('49f99c7b79024f779e1d1d050cb4ea3d', 'on-prem', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', '2026-11-26 05:43:02.253029', '2026-11-26 05:49:20.681418', 0, NULL, 'ACTIVE', NULL, '{"configuration":{"type":"fleet","name":"on-prem","placement":"cluster","blocks":1,"nodes":null,"reservation":null,"resources":null,"backends":null,"regions":null,"availability_zones":null,"instance_types":null,"spot_policy":null,"retry":null,"max_price":null,"idle_duration":null,"tags":null,"backend_options":null,"ssh_config":{"user":"ubuntu","port":null,"identity_file":null,"ssh_key":{"public":"","private":"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\nQyNTUxOQAAACDVkieu9Eb2q70S1YcB9gnJHJ9DKOiGW/uWuLhjC57oYQAAAJC0zNuxtMzb\nsQAAAAtzc2gtZWQyNTUxOQAAACDVkieu9Eb2q70S1YcB9gnJHJ9DKOiGW/uWuLhjC57oYQ\nAAAEArk2q6XypGc1E9Pd9Nih+LPJsLv4Np4eCHdlEtNl4IrNWSJ670RvarvRLVhwH2Cckc\nn0Mo6IZb+5a4uGMLnuhhAAAAB2NvbXBhcmUBAgMEBQY=\n-----END OPENSSH PRIVATE KEY-----\n"},"proxy_jump":null,"hosts":["127.0.0.2",{"hostname":"127.0.0.3","port":2222,"user":null,"identity_file":null,"proxy_jump":null,"internal_ip":null,"ssh_key":null,"blocks":"auto"}],"network":null},"env":{"A":"b"}},"configuration_path":"f.dstack.yml","profile":{"backends":null,"regions":null,"availability_zones":null,"instance_types":null,"reservation":null,"spot_policy":null,"retry":null,"max_duration":null,"stop_duration":null,"max_price":null,"creation_policy":null,"idle_duration":null,"utilization_policy":null,"startup_order":null,"stop_criteria":null,"schedule":null,"fleets":null,"instances":null,"tags":null,"backend_options":null,"name":"","default":false},"autocreated":false}', 0, NULL, NULL, NULL, NULL, NULL);
INSERT INTO "fleets" VALUES ('e4315c5e328b43379cb129b45938f857', 'cloud', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', '2026-11-26 05:43:02.290472', '2026-11-26 05:49:20.678097', 0, NULL, 'ACTIVE', NULL, '{"configuration":{"type":"fleet","name":"cloud","placement":null,"blocks":1,"nodes":{"min":0,"max":2},"reservation":null,"resources":{"cpu":{"arch":null,"count":{"min":2,"max":null}},"memory":{"min":8.0,"max":null},"shm_size":null,"gpu":{"vendor":null,"name":null,"count":{"min":1,"max":null},"memory":{"min":24.0,"max":24.0},"total_memory":null,"compute_capability":null},"disk":{"size":{"min":100.0,"max":null}}},"backends":null,"regions":null,"availability_zones":null,"instance_types":null,"spot_policy":null,"retry":null,"max_price":null,"idle_duration":null,"tags":null,"backend_options":null,"ssh_config":null,"env":{}},"configuration_path":"c.dstack.yml","profile":{"backends":null,"regions":null,"availability_zones":null,"instance_types":null,"reservation":null,"spot_policy":null,"retry":null,"max_duration":null,"stop_duration":null,"max_price":null,"creation_policy":null,"idle_duration":null,"utilization_policy":null,"startup_order":null,"stop_criteria":null,"schedule":null,"fleets":null,"instances":null,"tags":null,"backend_options":null,"name":"","default":false},"autocreated":false}', 0, '2026-11-26 05:49:01.516095', NULL, NULL, NULL, NULL);
INSERT INTO "instances" VALUES ('d64daa1c4d2d44dd8da60cf117a2318d', 'on-prem-1', '2026-11-26 05:43:02.256693', 0, NULL, 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', NULL, 'PENDING', '2026-11-26 05:43:02.256694', NULL, 'dont-destroy', 0, 'REMOTE', NULL, 'remote', 0.0, '{"backend":"remote","base_backend":null,"instance_type":{"name":"ssh","resources":{"cpus":2,"memory_mib":8,"gpus":[],"spot":false,"disk":{"size_mib":102400},"cpu_arch":null,"description":""}},"instance_id":"on-prem-1","hostname":"127.0.0.3","internal_ip":null,"public_ip_enabled":true,"instance_network":null,"region":"remote","availability_zone":null,"reservation":null,"price":0.0,"username":"ubuntu","ssh_port":2222,"dockerized":true,"ssh_proxy":null,"backend_data":"","gpu_driver":null}', '{"backend":"remote","instance":{"name":"ssh","resources":{"cpus":2,"memory_mib":8,"gpus":[],"spot":false,"disk":{"size_mib":102400},"cpu_arch":null,"description":""}},"region":"remote","price":0.0,"backend_data":{},"availability":"available","availability_zones":null,"instance_runtime":"shim","blocks":1,"total_blocks":1}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{"host":"127.0.0.3","port":2222,"ssh_user":"ubuntu","ssh_keys":[{"public":"","private":"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\nQyNTUxOQAAACDVkieu9Eb2q70S1YcB9gnJHJ9DKOiGW/uWuLhjC57oYQAAAJC0zNuxtMzb\nsQAAAAtzc2gtZWQyNTUxOQAAACDVkieu9Eb2q70S1YcB9gnJHJ9DKOiGW/uWuLhjC57oYQ\nAAAEArk2q6XypGc1E9Pd9Nih+LPJsLv4Np4eCHdlEtNl4IrNWSJ670RvarvRLVhwH2Cckc\nn0Mo6IZb+5a4uGMLnuhhAAAAB2NvbXBhcmUBAgMEBQY=\n-----END OPENSSH PRIVATE KEY-----\n"}],"ssh_proxy":null,"ssh_proxy_keys":null,"env":{"A":"b"}}', 0, 1, '49f99c7b79024f779e1d1d050cb4ea3d', '2026-11-26 05:49:26.377279', NULL, NULL, NULL, 0, 'HEALTHY', NULL, NULL, NULL, NULL, NULL, NULL, 0);
INSERT INTO "instances" VALUES ('dda37d1fb6784473903775eefe650878', 'on-prem-0', '2026-11-26 05:43:02.255186', 0, NULL, 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', NULL, 'PENDING', '2026-11-26 05:43:02.255188', NULL, 'dont-destroy', 0, 'REMOTE', NULL, 'remote', 0.0, '{"backend":"remote","base_backend":null,"instance_type":{"name":"ssh","resources":{"cpus":2,"memory_mib":8,"gpus":[],"spot":false,"disk":{"size_mib":102400},"cpu_arch":null,"description":""}},"instance_id":"on-prem-0","hostname":"127.0.0.2","internal_ip":null,"public_ip_enabled":true,"instance_network":null,"region":"remote","availability_zone":null,"reservation":null,"price":0.0,"username":"ubuntu","ssh_port":22,"dockerized":true,"ssh_proxy":null,"backend_data":"","gpu_driver":null}', '{"backend":"remote","instance":{"name":"ssh","resources":{"cpus":2,"memory_mib":8,"gpus":[],"spot":false,"disk":{"size_mib":102400},"cpu_arch":null,"description":""}},"region":"remote","price":0.0,"backend_data":{},"availability":"available","availability_zones":null,"instance_runtime":"shim","blocks":1,"total_blocks":1}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{"host":"127.0.0.2","port":22,"ssh_user":"ubuntu","ssh_keys":[{"public":"","private":"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\nQyNTUxOQAAACDVkieu9Eb2q70S1YcB9gnJHJ9DKOiGW/uWuLhjC57oYQAAAJC0zNuxtMzb\nsQAAAAtzc2gtZWQyNTUxOQAAACDVkieu9Eb2q70S1YcB9gnJHJ9DKOiGW/uWuLhjC57oYQ\nAAAEArk2q6XypGc1E9Pd9Nih+LPJsLv4Np4eCHdlEtNl4IrNWSJ670RvarvRLVhwH2Cckc\nn0Mo6IZb+5a4uGMLnuhhAAAAB2NvbXBhcmUBAgMEBQY=\n-----END OPENSSH PRIVATE KEY-----\n"}],"ssh_proxy":null,"ssh_proxy_keys":null,"env":{"A":"b"}}', 0, 0, '49f99c7b79024f779e1d1d050cb4ea3d', '2026-11-26 05:49:26.380390', NULL, NULL, 1, 0, 'HEALTHY', NULL, NULL, NULL, NULL, NULL, NULL, 0);
INSERT INTO "jobs" VALUES ('5a583e36ca4446c88d8b5554c8efc06f', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'cde43c6ce00f4f1fa000d50bb0764902', 'later', 0, 'later-0-0', 0, '2026-11-26 05:43:02.812274', '2026-11-26 05:43:07.622432', 'FAILED', 'FAILED_TO_START_DUE_TO_NO_CAPACITY', '{"replica_num":0,"job_num":0,"job_name":"later-0-0","jobs_per_replica":1,"replica_group":"0","app_specs":[],"user":null,"commands":["/bin/sh","-i","-c","a"],"env":{},"home_dir":"/root","image_name":"scratch","privileged":false,"single_branch":true,"max_duration":null,"stop_duration":300,"utilization_policy":null,"registry_auth":null,"requirements":{"resources":{"cpu":{"arch":null,"count":{"min":2,"max":null}},"memory":{"min":8.0,"max":null},"shm_size":null,"gpu":{"vendor":null,"name":null,"count":{"min":0,"max":null},"memory":null,"total_memory":null,"compute_capability":null},"disk":{"size":{"min":100.0,"max":null}}},"max_price":null,"spot":false,"reservation":null,"multinode":false,"backend_options":null},"retry":{"on_events":["no-capacity","interruption","error"],"duration":3600},"volumes":[],"ssh_key":null,"working_dir":null,"repo_data":{"repo_type":"virtual"},"repo_code_hash":null,"repo_dir":"/workflow","repo_exists_action":null,"file_archives":[],"service_port":null,"probes":[],"node_group_index":0,"node_group_name":"0","node_group_job_index":0}', NULL, NULL, NULL, NULL, 0, 'Fleet is at capacity', 0, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, 0, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL);
INSERT INTO "jobs" VALUES ('9f9ad3f578d840f0a7b962693226dd95', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'f7288d50a9814c1d8376979810c8866d', 'serve', 0, 'serve-0-0', 0, '2026-11-26 05:43:02.609436', '2026-11-26 05:43:07.625878', 'FAILED', 'FAILED_TO_START_DUE_TO_NO_CAPACITY', '{"replica_num":0,"job_num":0,"job_name":"serve-0-0","jobs_per_replica":1,"replica_group":"0","app_specs":[],"user":null,"commands":["/bin/sh","-i","-c","a"],"env":{},"home_dir":"/root","image_name":"scratch","privileged":false,"single_branch":true,"max_duration":null,"stop_duration":300,"utilization_policy":null,"registry_auth":null,"requirements":{"resources":{"cpu":{"arch":null,"count":{"min":2,"max":null}},"memory":{"min":8.0,"max":null},"shm_size":null,"gpu":{"vendor":null,"name":null,"count":{"min":0,"max":null},"memory":null,"total_memory":null,"compute_capability":null},"disk":{"size":{"min":100.0,"max":null}}},"max_price":null,"spot":false,"reservation":null,"multinode":false,"backend_options":null},"retry":null,"volumes":[],"ssh_key":null,"working_dir":null,"repo_data":{"repo_type":"virtual"},"repo_code_hash":null,"repo_dir":"/workflow","repo_exists_action":null,"file_archives":[],"service_port":80,"probes":[],"node_group_index":0,"node_group_name":"0","node_group_job_index":0}', NULL, NULL, NULL, NULL, 0, 'Fleet is at capacity', 0, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, 0, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL);
INSERT INTO "jobs" VALUES ('b9f0526c0f27448494d4d9c1f84233a1', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', '922bf3a65d2644e3a1ded75908d2ef7e', 'dev', 0, 'dev-0-0', 0, '2026-11-26 05:43:02.733837', '2026-11-26 05:43:07.621394', 'FAILED', 'FAILED_TO_START_DUE_TO_NO_CAPACITY', '{"replica_num":0,"job_num":0,"job_name":"dev-0-0","jobs_per_replica":1,"replica_group":"0","app_specs":[],"user":null,"commands":["/bin/sh","-i","-c","(echo ''uv pip install ipykernel...'' && uv pip install -q --no-cache-dir ipykernel 2> /dev/null) || (echo ''pip install ipykernel...'' && pip install -q --no-cache-dir ipykernel 2> /dev/null) || echo ''no uv or pip found, ipykernel was not installed'' && echo && echo ''To open in VS Code, use link below:'' && echo && echo \"  vscode://vscode-remote/ssh-remote+dev$DSTACK_WORKING_DIR\" && echo && echo ''To connect via SSH, use: `ssh dev`'' && echo && echo -n ''To exit, press Ctrl+C.'' && tail -f /dev/null"],"env":{},"home_dir":"/root","image_name":"scratch","privileged":false,"single_branch":false,"max_duration":null,"stop_duration":300,"utilization_policy":null,"registry_auth":null,"requirements":{"resources":{"cpu":{"arch":null,"count":{"min":2,"max":null}},"memory":{"min":8.0,"max":null},"shm_size":null,"gpu":{"vendor":null,"name":null,"count":{"min":0,"max":null},"memory":null,"total_memory":null,"compute_capability":null},"disk":{"size":{"min":100.0,"max":null}}},"max_price":null,"spot":false,"reservation":null,"multinode":false,"backend_options":null},"retry":null,"volumes":[],"ssh_key":null,"working_dir":null,"repo_data":{"repo_type":"virtual"},"repo_code_hash":null,"repo_dir":"/workflow","repo_exists_action":null,"file_archives":[],"service_port":null,"probes":[],"node_group_index":0,"node_group_name":"0","node_group_job_index":0}', NULL, NULL, NULL, NULL, 0, 'Fleet is at capacity', 0, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, 0, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL);
INSERT INTO "jobs" VALUES ('bca4e12599754cc789890d6f0d5db26d', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'ba88a51dd84c48628c76290a9b0f9d8c', 'train', 0, 'train-0-0', 0, '2026-11-26 05:43:21.448798', '2026-11-26 05:43:26.980075', 'FAILED', 'FAILED_TO_START_DUE_TO_NO_CAPACITY', '{"replica_num":0,"job_num":0,"job_name":"train-0-0","jobs_per_replica":1,"replica_group":"0","app_specs":[],"user":null,"commands":["/bin/sh","-i","-c","b"],"env":{},"home_dir":"/root","image_name":"scratch","privileged":false,"single_branch":true,"max_duration":null,"stop_duration":300,"utilization_policy":null,"registry_auth":null,"requirements":{"resources":{"cpu":{"arch":null,"count":{"min":2,"max":null}},"memory":{"min":8.0,"max":null},"shm_size":null,"gpu":{"vendor":null,"name":null,"count":{"min":0,"max":null},"memory":null,"total_memory":null,"compute_capability":null},"disk":{"size":{"min":100.0,"max":null}}},"max_price":null,"spot":false,"reservation":null,"multinode":false,"backend_options":null},"retry":null,"volumes":[],"ssh_key":null,"working_dir":null,"repo_data":{"repo_type":"virtual"},"repo_code_hash":null,"repo_dir":"/workflow","repo_exists_action":null,"file_archives":[],"service_port":null,"probes":[],"node_group_index":0,"node_group_name":"0","node_group_job_index":0}', NULL, NULL, NULL, NULL, 0, 'Fleet is at capacity', 0, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, 0, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL);
INSERT INTO "jobs" VALUES ('df90c2afba7b45d3a472b7518a8a6378', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'a1bcc978480e44ad866665246724167d', 'train', 0, 'train-0-0', 0, '2026-11-26 05:43:02.372132', '2026-11-26 05:43:07.619315', 'FAILED', 'FAILED_TO_START_DUE_TO_NO_CAPACITY', '{"replica_num":0,"job_num":0,"job_name":"train-0-0","jobs_per_replica":1,"replica_group":"0","app_specs":[{"port":8000,"map_to_port":8000,"app_name":"app_0","url_path":null,"url_query_params":null}],"user":null,"commands":["/bin/sh","-i","-c","a"],"env":{"TOKEN":"x"},"home_dir":"/root","image_name":"scratch","privileged":false,"single_branch":true,"max_duration":null,"stop_duration":300,"utilization_policy":null,"registry_auth":null,"requirements":{"resources":{"cpu":{"arch":null,"count":{"min":2,"max":null}},"memory":{"min":8.0,"max":null},"shm_size":null,"gpu":{"vendor":null,"name":null,"count":{"min":0,"max":null},"memory":null,"total_memory":null,"compute_capability":null},"disk":{"size":{"min":100.0,"max":null}}},"max_price":null,"spot":false,"reservation":null,"multinode":false,"backend_options":null},"retry":null,"volumes":[],"ssh_key":null,"working_dir":null,"repo_data":{"repo_type":"virtual"},"repo_code_hash":null,"repo_dir":"/workflow","repo_exists_action":null,"file_archives":[],"service_port":null,"probes":[],"node_group_index":0,"node_group_name":"0","node_group_job_index":0}', NULL, NULL, NULL, NULL, 0, 'Fleet is at capacity', 0, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, 0, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL);
INSERT INTO "members" VALUES ('1460e8a8065b462c9b3d9412c86a2999', 'e41223e4939c4b06ac073a4316285761', '69c615138a9c4ccdbf5d164bf5f69539', 'ADMIN', 0);
INSERT INTO "members" VALUES ('1e1cf825a8ee41f6a252bfb4f8396ee1', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', '518c7108ac9b45b6b09bc902bbc546e0', 'USER', 2);
INSERT INTO "members" VALUES ('62a8d7beca3d4149bf1b2f5d631cd9ed', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'e338c79dbd4949b9820ef6bf1025d074', 'MANAGER', 1);
INSERT INTO "members" VALUES ('cf515cea52cd4217ba04acc137a4f995', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', '69c615138a9c4ccdbf5d164bf5f69539', 'ADMIN', 0);
INSERT INTO "members" VALUES ('de0c0835777c48f89e6637c05a5f87d8', '7f780842688c43ac902c7f54bed80a0f', '69c615138a9c4ccdbf5d164bf5f69539', 'ADMIN', 0);
INSERT INTO "projects" VALUES ('7f780842688c43ac902c7f54bed80a0f', 'research', '-----BEGIN PRIVATE KEY-----
MIIEvwIBADANBgkqhkiG9w0BAQEFAASCBKkwggSlAgEAAoIBAQC5xI2D86hFujgU
eL9jL09TjQ1LkP172VGqi2SEZv+xFjOt1ChRXaJ2B088330nF2BTIfrBk54nYnUT
YDGvRw2ylyyxt0Avqc4HKeoGv0p4cPlTCQ9VS8OGMd7yLPbzOwEis/WNtD/9UQJ3
qUF0QGSI7erTgBoEPGucilF64ciAWpUfwjxVd6Y3abIc5v7pXzgB5tuvjwH8/Ove
DaNcuq5SVBalCJvlfaWfpCakWV4KJ0IQIsyeWAVV7D8RlRBDAJUjG0EpuCug/kZu
ycgd9ZiNN6b0hIOBW5Xfu1l8UN448rB0HgkE2MZaq8Zv+SlqntJdn0Wp132IHbLN
W1AFMxlBAgMBAAECggEADzdCQCSdC9kM7uBVDNK7NKTBCgd+O765KbbxLMci+mZP
JVXTV5bLz88Zdmr33VPU1/pYh7KHqcIuxL+EUk8HmDE5v/S6lSzba0rLmHHir6rR
QTPkxZ/HDB7ZnAyCzblvhmAnJMw20ZDpGtQKQHNlyLF0Io7DksVAKzpJIj+MJLci
ytMAksW0y9Mv56g7XuLbCRZi9PSyDIH897re3vFFTAino5BrkG3sK3ENXNZcWVNX
2M8ZntU/HSwZ7yfoJyrWH+YqwHw4u/t6h/7JlVq9br31yQGugqFuOT6G9EtR9ek3
dlIr+Gm4yLQBghgVkI80zLLREHw8j94dr+sXPOBd4QKBgQDwZruJGbva1aVPES/J
7u/VJcL7NV/M/dGfBxmlflHR4wNn3d7x1URXSLOjMkXQTNZjL5rNLrDROx1SWCUH
jj/t8xm6tkNVRNr/GE9nZu7uKoFArXqD4pqV2nkACmHXOHSj4ZYvrCM2hXc71Liu
Y8X9hAQ+GveC75NBW7aP1bp/hwKBgQDF0k/KOw112S8I3xI+8JmkrMOKedHINMVd
KcAr8j3tu1XZTpl9xDr+iW7CHZU2xJRYAKEP8Kk1g/RbNbmzSip2mqB+HzB8sWW7
6tOUBctlpCwSxhxVo1XAj4ZAIVMRoDKiJnuH9Z/CE+15Jarw4sGvRltsHzfejJYB
Xul272UC9wKBgQC5b/VvLyuKBU0rrW04jhfwSd2amzRX0t50liyBTOxeQ4eoAixs
TP8XeRwgYbIamHqzLdByP3bjHn9iul1t85t6uA/7x4Yu6xsmtSDi+TKLAryLIIYl
35Ew0MKPdnK8am8GzwdjpJvQ/ajYvSDsXEgoY0JGidSs6pKjUtSDJPFkVwKBgQCS
zzLx9YNWy3iRj+NdnHeZ87EmyqN6fldefYal1qBJFvduT1uwL3pMvrfZDdVYEOm6
qbTePI+HLMejDSskuMzsunKTRxhX4duLa4nb17UMWJtwz1/l2lLglmNeopygfxA0
sHSLASmwAdQCTYcgQFjXeFKO2lg/LHyCxepjnuSLHwKBgQDAskKNMOs1W5VCHeH4
fCk2Kr5+4f/PjB7YgAoBJciwwzKBdKYLWTequP1vdK64boPKwZ/ZOVzBwQoDfdMV
C8jRforl6T9LKqR30zm7Bi4cMIWO5TdNenqCRSV/S+j5T49SooJzl83vJ4AjFMDD
8DuxPX93mCF6+uh8FJX1YRY0IQ==
-----END PRIVATE KEY-----
', 'ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC5xI2D86hFujgUeL9jL09TjQ1LkP172VGqi2SEZv+xFjOt1ChRXaJ2B088330nF2BTIfrBk54nYnUTYDGvRw2ylyyxt0Avqc4HKeoGv0p4cPlTCQ9VS8OGMd7yLPbzOwEis/WNtD/9UQJ3qUF0QGSI7erTgBoEPGucilF64ciAWpUfwjxVd6Y3abIc5v7pXzgB5tuvjwH8/OveDaNcuq5SVBalCJvlfaWfpCakWV4KJ0IQIsyeWAVV7D8RlRBDAJUjG0EpuCug/kZuycgd9ZiNN6b0hIOBW5Xfu1l8UN448rB0HgkE2MZaq8Zv+SlqntJdn0Wp132IHbLNW1AFMxlB research@dstack
', NULL, '69c615138a9c4ccdbf5d164bf5f69539', 0, NULL, '2026-11-26 05:43:01.589603', 1, NULL, NULL);
INSERT INTO "projects" VALUES ('e41223e4939c4b06ac073a4316285761', '_deleted_1795671781_dd267599351c9baa', '-----BEGIN PRIVATE KEY-----
MIIEvwIBADANBgkqhkiG9w0BAQEFAASCBKkwggSlAgEAAoIBAQDkewVMYhRPARwu
q0qts9nnz2XoVp8JdSxSHpbuywuzK8J8TdsvaK+igaIqFC7hXS4g7tbFdQCQ4SXc
8L+b0pwcXB544I2D4hVm+SqHXsp3LbDtuu0J8HKS5JlYNV3f5Fel591R/mmc9gAQ
NZoofsKoPU6a9oZLlEj1O9hFwH4G9vRh1NPZqSJOu1AfhKuSD4Uw8D13HbLdUFDX
5g7Q5t3rEhS6lPp1ERwZRwUxwmcIe9FDxALSBUvpZK5L6yRkZblf8cc/FdBYe3Jt
dBNnLJkRozBKdN9EdcMyI6kx6aFMsg6w9dqguEMB2tsGwwFfu/6lcoOWYBwXd3YW
cTH8so0DAgMBAAECggEAIR/60SupERkymkuIPK3GClclya0BSrA7uD4qGL3EWPof
rMDm5bUyPYe42Ivrjg3h2bF23tLLPbX+tM0Moo1Cx9PNMS4xJi05eB/ovA6QoP21
WIoQwq+jFMvitYirLwIeePWoPzJ44mJB+RekXXmfRB/7TPkv2DZL6439GYPCYcTW
2S7UIC3/pSGyMR2334nT7OPdrSSIlch//vu+veGmkKCiVnY0ZUycnraFD8o6wUt5
muE61rmeIj5KwviefxISP49kfj5rvNoLYrA8gC5R2AdBgoNNehgrGfMKIdRDir9Z
2Zs/ZJ4u2eC5dgSoE9E3G9H6v/9S9uyDwhPIzJSDfQKBgQD5f05Ym/LXbbZk0SWQ
xHO/X/sdfcEW6vgPYceV/BOyVMQfbT3wonm2N7t+bCKtc0NAPNuzauvmTAbuVnmX
RWIUBZS+GjVFZ5KxXkfrxpMKf/GIvoWbtp/amAbOEczjOaAZmXAsp9PVwGDNJVsg
IDIOFCnrEi5btcduYazC0QwjbQKBgQDqb3ym/xfKdu9bIAgh8xueZ/PNipfMC4jF
0eTtzS0KW9iYTiyQ/wHFhTULjYHNqxey2DFLDXlfQoeNTHIy4jA29qgZCWylvfqm
xR21S+VAv36cFqt2OS0omimtvkjdhE0s/Iyr3F73A6ddCGccAwe5w6a/IGGvL2mO
NCPGmsS8LwKBgQDCctKXwqsH9SzS9CHn6wQe4eoveOP1PZmpO1a28ShUszXLHHPK
yIY9WsBY7mQ0dIG0XfoIoktKSHSaanEHUX74BcWAR6K+/dLZQ5agDjppU3/mSD6P
Nkztq9CZ6EubyDyb1vcTBpXVoMKRAA0+Q3lfeZ2V5KyWs1zEDYH8r7pbHQKBgQCq
uuac98nruRI32uwRTWsfwbTcS8Kg5wWEi4edZ38VvC3RPZ1XO1+e6ZPoBfYyQhfQ
N4IulnF93oW5caL5S6CxZpClKyfkzKZuLb+k+NDMhqk+I4RbZOhuWVdhIOMP7/oE
eSg5QRQn8JFCP4xX6h0GPGaDaqG5Y14MIgyr5qrAIQKBgQCrfWD1fvNy8i+6qIv1
TE9FmtkBKEmPY6+wRXXBjX/MqbfWUviiMHxG8PqqkE/PEG7I1+CL7OFBcEIPbA8l
Wd/EBTG7hT28oYpHzSoeKz6g/NsJ9qlzi6IOsG7VkwI0661XvQAsoa73sJPE4QfR
nqlwTDlV8h+8GWm5y5ntRM8DHw==
-----END PRIVATE KEY-----
', 'ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDkewVMYhRPARwuq0qts9nnz2XoVp8JdSxSHpbuywuzK8J8TdsvaK+igaIqFC7hXS4g7tbFdQCQ4SXc8L+b0pwcXB544I2D4hVm+SqHXsp3LbDtuu0J8HKS5JlYNV3f5Fel591R/mmc9gAQNZoofsKoPU6a9oZLlEj1O9hFwH4G9vRh1NPZqSJOu1AfhKuSD4Uw8D13HbLdUFDX5g7Q5t3rEhS6lPp1ERwZRwUxwmcIe9FDxALSBUvpZK5L6yRkZblf8cc/FdBYe3JtdBNnLJkRozBKdN9EdcMyI6kx6aFMsg6w9dqguEMB2tsGwwFfu/6lcoOWYBwXd3YWcTH8so0D old@dstack
', NULL, '69c615138a9c4ccdbf5d164bf5f69539', 1, NULL, '2026-11-26 05:43:01.633768', 0, 'old', NULL);
INSERT INTO "projects" VALUES ('ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'main', '-----BEGIN PRIVATE KEY-----
MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQC/FknbRNwmwkPf
uJ1h7ZJY7Vih5ytC0WlzdegUs7WIjlY26x/aGAKplGzlQLij4EVRA6zlMea1X5BU
F7rZbgeDa8q7mALKslixvN8mhWOWbLxzyjXC/lrdMDvgKpOccgdOHoJLhijlmJQJ
6boeiLRrviLxBf0lLqfa5mD2D6XJDetM59sqevz7tO2KxSfjq0H9sreCWCEDAuoT
CATQ1D4GgVIIqnuqD9Lb8md7hCOViVepAy8Ew4DpjpCIOnoCS3WE5Akt1Tt64YhQ
kzrFAVO+Vflgwm2GOBV+wXbTRTS29/YkNJnK0jAm1b47gGWiCWuY+jt/nV06ALyM
CK8uaiT7AgMBAAECggEAAO5bicVPdU45BRwMgu+kvj4vJ7V3+9QIDtdM5tzr+NsI
sdfPc0FEB2OBFv+LvBtZpcgTeEJtUgZB2Rxh0rFl4/lgfC2Exfa8gTvfB9Gv5zRn
GVarkGRWOQGv06shcP+1PWeJ/FLjsXVe3fV/l1Up2+SJ8wwJFxH1IMHtSFr8fyWf
ZIhHovK/0j5dEeBYJcU1AhCbCiE3t2nh2/9sSzGCLTXFVZ0M64AtPtLVoJBqh4tt
IGB9lP4w0BA+FjChaefhXk5PjitBGBZacTTNbH2NFqXDB/wQxwFYcZfMuDeLLVHF
QoioVh3Zbh80m5OSh6ohzxDOyIb2HTI3lAgLPcJ0sQKBgQDjyXeewu+/1KAoZhbG
3Land9gSIFR/jSiP4IpddCm9hTc9l7Y3DVPkyCByZbjaeV3HcXqaHB8cXVj3Yeou
EsZdiSPjrtrgkjDgX6dypSdMMCAm29PykLnhMeg7sPr2kh8yGwypXjhR0rpK9iiG
Ctcd1Z6pFmqnUvK9n5itwxRL/wKBgQDWwSmNuYoWaTRRgq3TTo3mdqox4yTjwpm7
kA9S9a0lErN2vRJNyloQA7kC7a0DqdWDjEh7Iott9smFB0Z1uhtSFrrpya+Wwqcl
WtAFFXM4B+q5Ea5FMLfU82ab2v9fH0bujClhGzdb8lQNGV/OB/fvzyfaBoe1Pedt
46ei+s9XBQKBgQDFbwZDkWsEtmLrITF0xDF9Dh819tfGhq81pcXIIrtbDXBH7ot9
RAwHLH8TKKAEnVVvXSiLEvzUNQS7xx6XOKa+w/NbkV8dbxj2IXKdqBBbtQrpI3id
sluqmPtVYZzkwtpPL6rV0li2cxQNjTaqmBLERTf0Dv36cab8PKy1T3T0OQKBgFbK
XfbPA0WnYuOGQqXhW2vGjWX3/JKntOWehPLsIvuWoTzdkKYrn1ZVitHqKEAQxR+S
9D//aAYa9Lp0hD9T5XK5iPSu8+2j4VUxbFyBnL0KRgxhXuLLm5/OdquKSCazR0Fl
F9wM2cSpHNrmZFep1MPwHpT4iqPuzrcUiE1Pu7fZAoGBAK2dgq1bQMofHUzZvLdY
Zd8reRZUkxa+GgpmuOinLlMkmsrZguVVCzG7DDaU/xO49cElSXCrEXvi25wpvjbB
sjJTNrwLzT0z8El74csUhIVtYrmMi/L1+8X3pevRS5ifZRhScuzRZSvKswKvh5VA
38HpNM62Wzx+dsrDxSVFWUAw
-----END PRIVATE KEY-----
', 'ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC/FknbRNwmwkPfuJ1h7ZJY7Vih5ytC0WlzdegUs7WIjlY26x/aGAKplGzlQLij4EVRA6zlMea1X5BUF7rZbgeDa8q7mALKslixvN8mhWOWbLxzyjXC/lrdMDvgKpOccgdOHoJLhijlmJQJ6boeiLRrviLxBf0lLqfa5mD2D6XJDetM59sqevz7tO2KxSfjq0H9sreCWCEDAuoTCATQ1D4GgVIIqnuqD9Lb8md7hCOViVepAy8Ew4DpjpCIOnoCS3WE5Akt1Tt64YhQkzrFAVO+Vflgwm2GOBV+wXbTRTS29/YkNJnK0jAm1b47gGWiCWuY+jt/nV06ALyMCK8uaiT7 main@dstack
', NULL, '69c615138a9c4ccdbf5d164bf5f69539', 0, NULL, '2026-11-26 05:41:08.170886', 0, NULL, NULL);
INSERT INTO "repo_creds" VALUES ('ad4bcbb2c3904d878353a0e74e4585cf', '51e5c9c3317d48cc9288f852388d1802', '69c615138a9c4ccdbf5d164bf5f69539', 'enc:aes:k1:yeKWkDqS1LgS4t2BwEj7Vg8bO8Vwc30tBoXCfadvCl1PnSF2qFfEIqXScO1Vp0DBk6PPULaI6H7WooRiv8VNO+0onmz1lXDUFChDds4WTZqvhjkKz2Nufr691/QznqSii6ZcdyTj0bWq/BDgBfkm');
INSERT INTO "repos" VALUES ('51e5c9c3317d48cc9288f852388d1802', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'r1', 'REMOTE', '{"repo_type":"remote","repo_name":"n"}', NULL);
INSERT INTO "repos" VALUES ('8c9a3804bdec493f98281f41462e2cbb', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', 'none', 'VIRTUAL', '{"repo_type":"virtual"}', NULL);
INSERT INTO "runs" VALUES ('922bf3a65d2644e3a1ded75908d2ef7e', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', '8c9a3804bdec493f98281f41462e2cbb', '69c615138a9c4ccdbf5d164bf5f69539', '2026-11-26 05:43:02.731822', 'dev', 'FAILED', '{"run_name":"dev","repo_id":"none","repo_data":{"repo_type":"virtual"},"repo_code_hash":null,"repo_dir":null,"file_archives":[],"working_dir":null,"configuration_path":null,"configuration":{"ide":"vscode","version":null,"init":[],"inactivity_duration":null,"ports":[],"type":"dev-environment","name":null,"image":"scratch","user":null,"privileged":false,"entrypoint":null,"working_dir":null,"home_dir":"/root","registry_auth":null,"python":null,"nvcc":null,"single_branch":null,"env":{},"shell":null,"resources":{"cpu":{"arch":null,"count":{"min":2,"max":null}},"memory":{"min":8.0,"max":null},"shm_size":null,"gpu":{"vendor":null,"name":null,"count":{"min":0,"max":null},"memory":null,"total_memory":null,"compute_capability":null},"disk":{"size":{"min":100.0,"max":null}}},"priority":0,"volumes":[],"docker":null,"repos":[],"files":[],"dstack":false,"setup":[],"backends":null,"regions":null,"availability_zones":null,"instance_types":null,"reservation":null,"spot_policy":null,"retry":null,"max_duration":null,"stop_duration":null,"max_price":null,"creation_policy":null,"idle_duration":null,"utilization_policy":null,"startup_order":null,"stop_criteria":null,"schedule":null,"fleets":null,"instances":null,"tags":null,"backend_options":null},"profile":null,"ssh_key_pub":"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDFLuVsPOpRuhweeY2WEXrhORr6sWw24fjQJqB2pKMVecmQC6hz+c0+v0B3UybDQFOzfX2tSje39+aqsX1Rnim0ZuNiwXdXc82jO2mxNfv9KYz0idwSOd5ucFw99J1D4iKdgoKRBs3kS4ToDK03V4pe1W3f3RQ3Z2UOooc3IbyF7OZXFxOs9nX+tJkK/JFLzp1zUw6qyyC0Bk108qrnPl+jfH0vHkE9IR0ZQ43W13ErvojS8OItBGz2ycWBrT3q3ZlVE+J1FN3GBYPxDJFOx2d1IX2FZaMufWKfxpG2a9fejbcfzFpon7RWeILpE6/6tvNvNP87rgF6olYvooFdkz91 admin\n"}', 0, '2026-11-26 05:43:20.666768', NULL, 'JOB_FAILED', NULL, NULL, 0, 0, 0, 1, NULL, NULL, NULL, NULL, NULL, 0);
INSERT INTO "runs" VALUES ('a1bcc978480e44ad866665246724167d', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', '8c9a3804bdec493f98281f41462e2cbb', '69c615138a9c4ccdbf5d164bf5f69539', '2026-11-26 05:43:02.367824', 'train', 'FAILED', '{"run_name":"train","repo_id":"none","repo_data":{"repo_type":"virtual"},"repo_code_hash":null,"repo_dir":null,"file_archives":[],"working_dir":null,"configuration_path":null,"configuration":{"nodes":1,"groups":null,"ports":[{"local_port":8000,"container_port":8000}],"commands":["a"],"type":"task","name":null,"image":"scratch","user":null,"privileged":false,"entrypoint":null,"working_dir":null,"home_dir":"/root","registry_auth":null,"python":null,"nvcc":null,"single_branch":null,"env":{"TOKEN":"x"},"shell":null,"resources":{"cpu":{"arch":null,"count":{"min":2,"max":null}},"memory":{"min":8.0,"max":null},"shm_size":null,"gpu":{"vendor":null,"name":null,"count":{"min":0,"max":null},"memory":null,"total_memory":null,"compute_capability":null},"disk":{"size":{"min":100.0,"max":null}}},"priority":0,"volumes":[],"docker":null,"repos":[],"files":[],"dstack":false,"setup":[],"backends":null,"regions":null,"availability_zones":null,"instance_types":null,"reservation":null,"spot_policy":null,"retry":null,"max_duration":null,"stop_duration":null,"max_price":null,"creation_policy":null,"idle_duration":null,"utilization_policy":null,"startup_order":null,"stop_criteria":null,"schedule":null,"fleets":null,"instances":null,"tags":null,"backend_options":null},"profile":null,"ssh_key_pub":"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDFLuVsPOpRuhweeY2WEXrhORr6sWw24fjQJqB2pKMVecmQC6hz+c0+v0B3UybDQFOzfX2tSje39+aqsX1Rnim0ZuNiwXdXc82jO2mxNfv9KYz0idwSOd5ucFw99J1D4iKdgoKRBs3kS4ToDK03V4pe1W3f3RQ3Z2UOooc3IbyF7OZXFxOs9nX+tJkK/JFLzp1zUw6qyyC0Bk108qrnPl+jfH0vHkE9IR0ZQ43W13ErvojS8OItBGz2ycWBrT3q3ZlVE+J1FN3GBYPxDJFOx2d1IX2FZaMufWKfxpG2a9fejbcfzFpon7RWeILpE6/6tvNvNP87rgF6olYvooFdkz91 admin\n"}', 1, '2026-11-26 05:43:20.598001', NULL, 'JOB_FAILED', NULL, NULL, 0, 0, 0, 1, NULL, NULL, NULL, NULL, NULL, 0);
INSERT INTO "runs" VALUES ('ba88a51dd84c48628c76290a9b0f9d8c', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', '8c9a3804bdec493f98281f41462e2cbb', '69c615138a9c4ccdbf5d164bf5f69539', '2026-11-26 05:43:21.446310', 'train', 'FAILED', '{"run_name":"train","repo_id":"none","repo_data":{"repo_type":"virtual"},"repo_code_hash":null,"repo_dir":null,"file_archives":[],"working_dir":null,"configuration_path":null,"configuration":{"nodes":1,"groups":null,"ports":[],"commands":["b"],"type":"task","name":null,"image":"scratch","user":null,"privileged":false,"entrypoint":null,"working_dir":null,"home_dir":"/root","registry_auth":null,"python":null,"nvcc":null,"single_branch":null,"env":{},"shell":null,"resources":{"cpu":{"arch":null,"count":{"min":2,"max":null}},"memory":{"min":8.0,"max":null},"shm_size":null,"gpu":{"vendor":null,"name":null,"count":{"min":0,"max":null},"memory":null,"total_memory":null,"compute_capability":null},"disk":{"size":{"min":100.0,"max":null}}},"priority":0,"volumes":[],"docker":null,"repos":[],"files":[],"dstack":false,"setup":[],"backends":null,"regions":null,"availability_zones":null,"instance_types":null,"reservation":null,"spot_policy":null,"retry":null,"max_duration":null,"stop_duration":null,"max_price":null,"creation_policy":null,"idle_duration":null,"utilization_policy":null,"startup_order":null,"stop_criteria":null,"schedule":null,"fleets":null,"instances":null,"tags":null,"backend_options":null},"profile":null,"ssh_key_pub":"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDFLuVsPOpRuhweeY2WEXrhORr6sWw24fjQJqB2pKMVecmQC6hz+c0+v0B3UybDQFOzfX2tSje39+aqsX1Rnim0ZuNiwXdXc82jO2mxNfv9KYz0idwSOd5ucFw99J1D4iKdgoKRBs3kS4ToDK03V4pe1W3f3RQ3Z2UOooc3IbyF7OZXFxOs9nX+tJkK/JFLzp1zUw6qyyC0Bk108qrnPl+jfH0vHkE9IR0ZQ43W13ErvojS8OItBGz2ycWBrT3q3ZlVE+J1FN3GBYPxDJFOx2d1IX2FZaMufWKfxpG2a9fejbcfzFpon7RWeILpE6/6tvNvNP87rgF6olYvooFdkz91 admin\n"}', 0, '2026-11-26 05:43:54.049846', NULL, 'JOB_FAILED', NULL, NULL, 0, 0, 0, 1, NULL, NULL, NULL, NULL, NULL, 0);
INSERT INTO "runs" VALUES ('cde43c6ce00f4f1fa000d50bb0764902', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', '8c9a3804bdec493f98281f41462e2cbb', '69c615138a9c4ccdbf5d164bf5f69539', '2026-11-26 05:43:02.810099', 'later', 'TERMINATED', '{"run_name":"later","repo_id":"none","repo_data":{"repo_type":"virtual"},"repo_code_hash":null,"repo_dir":null,"file_archives":[],"working_dir":null,"configuration_path":null,"configuration":{"nodes":1,"groups":null,"ports":[],"commands":["a"],"type":"task","name":null,"image":"scratch","user":null,"privileged":false,"entrypoint":null,"working_dir":null,"home_dir":"/root","registry_auth":null,"python":null,"nvcc":null,"single_branch":null,"env":{},"shell":null,"resources":{"cpu":{"arch":null,"count":{"min":2,"max":null}},"memory":{"min":8.0,"max":null},"shm_size":null,"gpu":{"vendor":null,"name":null,"count":{"min":0,"max":null},"memory":null,"total_memory":null,"compute_capability":null},"disk":{"size":{"min":100.0,"max":null}}},"priority":0,"volumes":[],"docker":null,"repos":[],"files":[],"dstack":false,"setup":[],"backends":null,"regions":null,"availability_zones":null,"instance_types":null,"reservation":null,"spot_policy":null,"retry":true,"max_duration":null,"stop_duration":null,"max_price":null,"creation_policy":null,"idle_duration":null,"utilization_policy":null,"startup_order":null,"stop_criteria":null,"schedule":null,"fleets":null,"instances":null,"tags":null,"backend_options":null},"profile":null,"ssh_key_pub":"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDFLuVsPOpRuhweeY2WEXrhORr6sWw24fjQJqB2pKMVecmQC6hz+c0+v0B3UybDQFOzfX2tSje39+aqsX1Rnim0ZuNiwXdXc82jO2mxNfv9KYz0idwSOd5ucFw99J1D4iKdgoKRBs3kS4ToDK03V4pe1W3f3RQ3Z2UOooc3IbyF7OZXFxOs9nX+tJkK/JFLzp1zUw6qyyC0Bk108qrnPl+jfH0vHkE9IR0ZQ43W13ErvojS8OItBGz2ycWBrT3q3ZlVE+J1FN3GBYPxDJFOx2d1IX2FZaMufWKfxpG2a9fejbcfzFpon7RWeILpE6/6tvNvNP87rgF6olYvooFdkz91 admin\n"}', 0, '2026-11-26 05:43:21.330917', NULL, 'STOPPED_BY_USER', NULL, NULL, 1, 0, 0, 1, NULL, NULL, NULL, NULL, NULL, 0);
INSERT INTO "runs" VALUES ('f7288d50a9814c1d8376979810c8866d', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', '8c9a3804bdec493f98281f41462e2cbb', '69c615138a9c4ccdbf5d164bf5f69539', '2026-11-26 05:43:02.595385', 'serve', 'FAILED', '{"run_name":"serve","repo_id":"none","repo_data":{"repo_type":"virtual"},"repo_code_hash":null,"repo_dir":null,"file_archives":[],"working_dir":null,"configuration_path":null,"configuration":{"port":{"local_port":80,"container_port":80},"gateway":null,"strip_prefix":true,"model":null,"https":null,"auth":true,"scaling":null,"rate_limits":[],"probes":null,"replicas":null,"groups":null,"commands":["a"],"type":"service","name":null,"image":"scratch","user":null,"privileged":false,"entrypoint":null,"working_dir":null,"home_dir":"/root","registry_auth":null,"python":null,"nvcc":null,"single_branch":null,"env":{},"shell":null,"resources":{"cpu":{"arch":null,"count":{"min":2,"max":null}},"memory":{"min":8.0,"max":null},"shm_size":null,"gpu":{"vendor":null,"name":null,"count":{"min":0,"max":null},"memory":null,"total_memory":null,"compute_capability":null},"disk":{"size":{"min":100.0,"max":null}}},"priority":0,"volumes":[],"docker":null,"repos":[],"files":[],"dstack":false,"setup":[],"backends":null,"regions":null,"availability_zones":null,"instance_types":null,"reservation":null,"spot_policy":null,"retry":null,"max_duration":null,"stop_duration":null,"max_price":null,"creation_policy":null,"idle_duration":null,"utilization_policy":null,"startup_order":null,"stop_criteria":null,"schedule":null,"fleets":null,"instances":null,"tags":null,"backend_options":null},"profile":null,"ssh_key_pub":"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDFLuVsPOpRuhweeY2WEXrhORr6sWw24fjQJqB2pKMVecmQC6hz+c0+v0B3UybDQFOzfX2tSje39+aqsX1Rnim0ZuNiwXdXc82jO2mxNfv9KYz0idwSOd5ucFw99J1D4iKdgoKRBs3kS4ToDK03V4pe1W3f3RQ3Z2UOooc3IbyF7OZXFxOs9nX+tJkK/JFLzp1zUw6qyyC0Bk108qrnPl+jfH0vHkE9IR0ZQ43W13ErvojS8OItBGz2ycWBrT3q3ZlVE+J1FN3GBYPxDJFOx2d1IX2FZaMufWKfxpG2a9fejbcfzFpon7RWeILpE6/6tvNvNP87rgF6olYvooFdkz91 admin\n"}', 1, '2026-11-26 05:43:20.629876', NULL, 'JOB_FAILED', '{"url":"/proxy/services/main/serve/","model":null,"options":{}}', NULL, 0, 0, 0, 1, NULL, NULL, NULL, NULL, NULL, 0);
INSERT INTO "secrets" VALUES ('675cb9f28f3f4f029bfd53c11a9f3b58', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', '2026-11-26 05:43:01.782371', '2026-11-26 05:43:01.782377', 'hf', 'enc:aes:k1:uJp/XlkqJ4eaSkxzdosE20seCYcZIWtzDofqwRbWT9ytG1ZPhg==');
INSERT INTO "secrets" VALUES ('e933d2011f7a43879cb10bf37d8c6548', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', '2026-11-26 05:43:01.805113', '2026-11-26 05:43:01.805119', 'wandb', 'enc:aes:k1:sO17jiQNO7tokCCnAuu4A+7Fx0kActbJY/BEeqJP');
INSERT INTO "user_public_keys" VALUES ('5ed6fde756364d668418637b609cb273', '2026-11-26 05:43:01.742888', 'e338c79dbd4949b9820ef6bf1025d074', 'laptop', 'ssh-ed25519', 'SHA256:tB+J17alZ25nzeN196I5oKi7AYctjllXAs2rDFxL1fA', 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINWSJ670RvarvRLVhwH2Cckcn0Mo6IZb+5a4uGMLnuhh ann@laptop');
INSERT INTO "users" VALUES ('518c7108ac9b45b6b09bc902bbc546e0', 'bob', 'enc:aes:k1:3s6hq2vRwIPH2PZktHHXgnKXnKTi1FMsXS8bbNLcqMZt5s1ARZM66WB5jmmyaZLJ4eUDwIxPb7oR4FAxFj96MQ==', 'USER', 10, 'bob@example.com', '55bf20457ba4f38c1841ea3a813ff7a01ef5541adf348e12e6eb630be6dc2a3f', 1, '2026-11-26 05:43:01.314804', '-----BEGIN PRIVATE KEY-----
MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDVyopDT4W4Lvab
oMVfTCXlzO2tHfpT9SxTA+P/OBDtb5kO9g2gh0N0z/CcLX/e7uAmCb22JtMM+Lpk
5IHRcVNeiaWLPlTtq/cLX/SCpUWvHDvBMroRidjTuMeaFJjmNu9kVWmGvWZtQpmZ
SLyFJyGJ2NGf+2q7q/bfJSDjIcACUoU+fCz8aRz+y3ybx2demaJo4gtK+VwJl4kM
+N149CGypq/XDM+MgHcdTUBLAXSjWT7RHI19ligNDRn+BtBIpW4D7H0SQ410wM6E
RPP2k+HLVVjghZFMgbohk+YPjZ/Akcb6196nTfiDH5IxU67r1poyEm8XKmPs6MY5
R051I5MFAgMBAAECggEAG0UYCMjydhFrfGNv+Z1lciAHKx9ZSG9MBZTH9syIgDjN
bbad+111kcdaWhmFp4KRzdhNPhhKsGtjny30jyok57ioCJBdVemq++Tz89wv/Mud
paGaUVVjdnIp57H75NWaCJLKgJjVIVeu7vnzrgpVQVeKOZ1gumqPdVwvizlJXCI9
1OPUso/t+tBO1s61PVPrQUTDSAVIkxpSKbrWElU6EKX+zGFvqw47JOqTplz1Eh24
D8qUuXZxqGqNWouaj22LN3KWjXv5A1+3mf/9s21jIdB1sbml28GfW5LPuBClGBDX
OvPAi60jHjJyFpWh6BoHq552d5bP5Z2BXQO21Urz+wKBgQDrJ1tfz1aHZsLwivtH
gqX7IGtMy/MNMYpcRh2FtwMPdqq/GxzHA80bgKSpVnGuIxUeigTyXzXoGq1q9b1f
qbDR4Frc43vqzTKUaS6gR8LlNGH3hs5xYjNv8GCoKN9gn3q1i+0WNOrM2yYccJR0
/K80ow05lz2gC/UuZZyVQBzwLwKBgQDovmARUUAygMQJc47MfBQ4KKE7sW3zkrT8
RF5ffCQMOHXmxRZEBWOABOkgnH/eSyPjmKOeHlMrcsnVP3jrQMygRf77wthm6X84
1/T4q9vDsx8v+qnsWP8MENNZfzjgODKiw9pWiyv6NCc0CIHXUXlC32N3bmZEAtb9
tjRSMDWPCwKBgHxht/JIsGM0Vr53NQyRLYxUjIz1f90lrCK8r5bvw72lLhGhnKoj
95Spie9MGxtZ0SzzIkS1WcUofzwJOZ7lGfMZcdZOuVfsK+nWbOQ4sP0dpQgRlRbi
M4TtJ6Mq42SvVm+60LAjU2MCM/ltDwmGMoJsEG268sy6JnjhJF7Jp8TfAoGAMovN
31TvBUjTyl2vYJd96KhiQ82H3IM7DSJoAIK8bW8BpAmfiUxGTLJEUxHJ72QQOkiX
GCrr0x7N2KM9RpI/Hnu1IcYyKz+Aor679BmW08yd9FSS/MJjOaKZ0/D+UCvES3cP
fwYgmekjrng+gp2uISjUuEZgrVqUiGs+t67CovsCgYEAsClqCeYMlxjyll241x/f
f77pBPXyodIDyfdJSGVQU79Uab7VU7oBeVRzKb4DyRTrawV9Tkmi81Hi01Mv3LYk
cYAcf4oGHHD37OCYbh2E56VDGGfT8pJN+0dpqa3P9G1V8tOPrDFIq/fWdmvnFl6R
DA57GmyJVyjgFbJU4SbL+ps=
-----END PRIVATE KEY-----
', 'ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDVyopDT4W4LvaboMVfTCXlzO2tHfpT9SxTA+P/OBDtb5kO9g2gh0N0z/CcLX/e7uAmCb22JtMM+Lpk5IHRcVNeiaWLPlTtq/cLX/SCpUWvHDvBMroRidjTuMeaFJjmNu9kVWmGvWZtQpmZSLyFJyGJ2NGf+2q7q/bfJSDjIcACUoU+fCz8aRz+y3ybx2demaJo4gtK+VwJl4kM+N149CGypq/XDM+MgHcdTUBLAXSjWT7RHI19ligNDRn+BtBIpW4D7H0SQ410wM6ERPP2k+HLVVjghZFMgbohk+YPjZ/Akcb6196nTfiDH5IxU67r1poyEm8XKmPs6MY5R051I5MF bob
', 0, NULL);
INSERT INTO "users" VALUES ('69c615138a9c4ccdbf5d164bf5f69539', 'admin', 'enc:aes:k1:AFq93urrZg3eEmsUvp84f1DwZe4t4apbNSc1YcUDUjMBXH3SUrXgiw==', 'ADMIN', 10, NULL, '0db38d0c0501f96b16bff425414bd6f85333e9d00ea47a9737b8c47ef176e415', 1, '2026-11-26 05:41:07.997664', '-----BEGIN PRIVATE KEY-----
MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQDFLuVsPOpRuhwe
eY2WEXrhORr6sWw24fjQJqB2pKMVecmQC6hz+c0+v0B3UybDQFOzfX2tSje39+aq
sX1Rnim0ZuNiwXdXc82jO2mxNfv9KYz0idwSOd5ucFw99J1D4iKdgoKRBs3kS4To
DK03V4pe1W3f3RQ3Z2UOooc3IbyF7OZXFxOs9nX+tJkK/JFLzp1zUw6qyyC0Bk10
8qrnPl+jfH0vHkE9IR0ZQ43W13ErvojS8OItBGz2ycWBrT3q3ZlVE+J1FN3GBYPx
DJFOx2d1IX2FZaMufWKfxpG2a9fejbcfzFpon7RWeILpE6/6tvNvNP87rgF6olYv
ooFdkz91AgMBAAECggEABIwU+llam1E2vh/WJgnNKE3QKMvX+lldCt/Of4NDHNxW
y52ZNY4jL46Vhqrs5T/Mg60h2CcyqxQVG7FFeeZd1oKGPTbHm8VYjqpwwNzFLOIS
ar6Vy/h4VVpTUOfH4Kg3CCQvAqKCM6uSKw/FHCub+J06EBmMZ81YmpfLlSKQCGk9
xY9xf2V8s/xacUyeCPH2p6qZqXkNvMqSLqRNWuj9cojvZUF3ZkTAJtePAXNYAl2H
FjdHpK4zU2ZUPPckSQ4WTjO9s1h7QoeeSvtobs4iohCdsGOA7ECv9mKdbHdzXWxv
k3iZvzePpbVJYOcTLJ5VYf5Z8jxpz3bNYaRqx0GSwQKBgQDxfAHGY8dmn+xybJLv
nBWqtS4G+pZC6XIPEX7dULdW3pFEBgwTKio7Bp+XS4HGRiR/FwfiYqG9oC5teQYB
JQOALdjmjZb5TzppWp2mukAi1ByJA1WSevtZ+/yNf0FmXB4CCcEZfSLALB34E2nq
S6Sje189nQxsxR+CES0xf8yjjQKBgQDRCS0s9cqnOusypcyNqPJ+mya5iDkQvx8W
xbpEvnG+brFOBObuit1nZI9S28po/4o1Xcgpd2mSf1Fwi4Zj7KKI5kp4nWHlwsF6
lbGHK6NeV4UNogtTexyXTsWlEA8IALhC72TSgrLJCgMRS7SZlRG/WodIsN0yfER2
xJq7UBvdiQKBgQCPS1+eQs0rN5DOIWFbr8onnxVt7LrHf9E/4cjfOSth7/ZRYClA
IhAnMHn5BERAzJSRmbADBTYm2OtT6LHIchdOs2X3AWPqErp9k9ji+7hdMnKwVvsr
TbDjJ6Uora+4NsdTvEgKgPfjAwrRj2uVLUfH/sh4Pj4GOT7GJr0jl0tubQKBgQC6
uLS23ZO5T8L6SenvfEOoXhT4U7uNvvsZT2Q0td1KmvwcUfqqiDZ/fe8ct6IVqnYd
d3ktuTH/n2Ty4F8acS06lmNdXFAveYl0Y7ThplRXGFyMsfvmBSmj6sRXzoFux53Q
hKEN/ZuQQzY8Q+C988+Xm1kO0JW13BUX9kS1HzjU6QKBgG0HbkkYo3tstJojA4NW
60fyZGQA5vUKsSb8khVMF3dmG/rPvMQD/35yTNRzHArKWz40frO8FgSHXo4don5j
Wmp3pmLcT9/I7mxN/OTPoOE4/GuBOIw2q0ALXH9m0Pk8oKLz/RIkVLY9fDMhHDMS
fkrMFRW12nZxD4+/tsHa/bHs
-----END PRIVATE KEY-----
', 'ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDFLuVsPOpRuhweeY2WEXrhORr6sWw24fjQJqB2pKMVecmQC6hz+c0+v0B3UybDQFOzfX2tSje39+aqsX1Rnim0ZuNiwXdXc82jO2mxNfv9KYz0idwSOd5ucFw99J1D4iKdgoKRBs3kS4ToDK03V4pe1W3f3RQ3Z2UOooc3IbyF7OZXFxOs9nX+tJkK/JFLzp1zUw6qyyC0Bk108qrnPl+jfH0vHkE9IR0ZQ43W13ErvojS8OItBGz2ycWBrT3q3ZlVE+J1FN3GBYPxDJFOx2d1IX2FZaMufWKfxpG2a9fejbcfzFpon7RWeILpE6/6tvNvNP87rgF6olYvooFdkz91 admin
', 0, NULL);
INSERT INTO "users" VALUES ('922cae4f12ee4c83b1b21fdf19308a83', '_deleted_1795671781_73dbc01a0967e36c', 'enc:aes:k1:tei+D3UuNUSShbedm+g4yBfl1V2pxcb4CujeURBNycMG1G+0yBMOFDWzpzZjaOgqTiCBi60kNQMxH13odreEAg==', 'USER', 10, 'gone@example.com', '984c0cdd3a8869ca442e196f770ae571fefb3c1fb1d5a6dde6dfd56167a4203f', 0, '2026-11-26 05:43:01.444541', '-----BEGIN PRIVATE KEY-----
MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQCaAJ30qDb2vHf1
Ris5YxcS8jOVy2q9kyv/8o2gd4ffj1BKi6B9n23A+7OD2YcGVq50W0fRW/4FIZR6
T0a1uVGo39iW1IzsqLRi2cGgMeYUcobiD9cTGx7W6KBscT/O3fRajcDf+aIXb0e8
ij/712heLXBPxz+HUG54M4pWwWsqedCTWqIt/SZWcOlTYba4YIOInGVYKYKDpsqZ
2uTBCmvjuJ9O2E/xq17U7RtIvwYsB4wPvFHb5/kUwCHah5kctakee4nK3TTzEFb+
l7k95B/nEYbx6iN/BWLvBjD5D7RIoYQI6dFqcEZVZ6ASMbXEEHcRnZG4RGHUbLRd
Z1D0GPrxAgMBAAECggEAAIRT9ezfJKxKlq4W9Mna213ezY+EQZjnQhayW14iFB53
ry6vsJ0YqyIT4jNwAPrxWEbmeUIUtZYRc83a//uEz0EdguoyuVC8Ynm2eohow8rA
niYaxyaB+B+XL/DxDhIzOik29aYgq3FPJqyREU66O9JE9a8rp918ArO/sLosDQtP
gWMCq8TVfhghw5E703l6NcMXTwX/OgI8U6lnbPb7Or3fBL6hQl/uYFSHXfFkV6Jb
8JrF8RLBs1b1z2aK51MLZ3aFj+4YVqeoRltSg4tgn4h0R44llBcZQNCfe66bmuU/
pO6dqyFgu0AXvHb0ly67QlYt9Nt0vYzX8kGvGZLcSwKBgQDH91mcFjl0zO5+x/Gk
VteFG4UG2QOUywH403UFqfw0KS8iO70AW9NgrlnhYSj7Jdega5zb3gIMcGaNB6cP
Wo2gQim/BZ1OpooitSzCo4xw9G8p8autUS8dCy4QIwyqw97bZ3WL3zGA+47Ih2cM
ZGyih/Fp9QdusH+2Erhza7lG1wKBgQDFKAlox9NgN7dw7ZCwkLaIqtmLoNFLZgdx
Fi9RO0V8QRyWTEPipPcvD96UtkigUxF0HuX0Cr6Wr6XButqr6GBVkbWxvoM9Otur
nmIEoaKsoe/492rtd0FHD/9ZiV9Yf5I5T3kGKx5Yko5YaNGz1xKj+mKWlbUqE1n2
rANQcla7dwKBgEtQ0qODi2h+t2VxEYaAXvR3hQcrPboRLFD39B+KAr/ysxoFvg4g
h+DmSlwlKDZP7oMxhQca+1KME1QTCc0yoh02TlrwVmuFNooUCyPUTdVNe4Ek0TCa
X1BlIZhaWy8GTy38Lb3c9txJ42GL/jggqvockcUC0SXTvIZrTqXKcSJJAoGBAIqs
s5mY3EvURNpQrzISR+HvUl9M+YnwNRHNCfE4IJLadZIeCK3VXOwkXGn7oS/r3d3w
kcxK9m2lFJEkrgS2yXPGrqdcGpGp4bNgDw+05WhJ6zISTYrEFA046mH/JypnaOGY
zcaR86FXTHpRGBdIExt11XyXxrrWq7O+oAIoumrXAoGANrcZ83sbORdWtheBZ005
BdSG+BDs0PMl983b3EsIvy++Ie2WjhihnsdOpoAUygfsnFEP7JNNSxeR0NAxoPDj
UHZBXgxnX3RKc9B8qy7bh/BNt6SQEsdPhYHh+LS+Ge5vCXuc5S06DSg6aNx8tVv2
tRVrR5yeMV5e0eiQvIlTmmM=
-----END PRIVATE KEY-----
', 'ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQCaAJ30qDb2vHf1Ris5YxcS8jOVy2q9kyv/8o2gd4ffj1BKi6B9n23A+7OD2YcGVq50W0fRW/4FIZR6T0a1uVGo39iW1IzsqLRi2cGgMeYUcobiD9cTGx7W6KBscT/O3fRajcDf+aIXb0e8ij/712heLXBPxz+HUG54M4pWwWsqedCTWqIt/SZWcOlTYba4YIOInGVYKYKDpsqZ2uTBCmvjuJ9O2E/xq17U7RtIvwYsB4wPvFHb5/kUwCHah5kctakee4nK3TTzEFb+l7k95B/nEYbx6iN/BWLvBjD5D7RIoYQI6dFqcEZVZ6ASMbXEEHcRnZG4RGHUbLRdZ1D0GPrx gone
', 1, 'gone');
INSERT INTO "users" VALUES ('e338c79dbd4949b9820ef6bf1025d074', 'ann', 'enc:aes:k1:8bGmqOjY7c6hSWtJB2JnWkcQ0lKx7CCe50QPrtEcKoV/Ooq+z86K4pJ+oEeD+DJ/T0ZiJ6ApnmKwuIHt8xwNWQ==', 'USER', 10, 'ann@example.com', 'c9e633f3421c984dcff8f26af8f246ddba343f4c4d8dd73b9f1e75593201f3e5', 1, '2026-11-26 05:43:01.113190', '-----BEGIN PRIVATE KEY-----
MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQDb4GegrEvMcHFN
zlsiCUWEZ1YNjOB49ItHJdxQWexA+WXN8CBugTEAJkcRax8gX9q1rYo65ob+09tp
Arhebbm4jfdc+1VlFRcjwRXKoZwbT2pDmwctgINzK1Vu+ePMZX1UeR9e8GlDnA74
KUNmAJvca4jnxoXo5nf36Ek2lx3JaBDkB4kZaVN6uE6HOnLIFayNZ8zNOdScOs60
iFFUexDZisnQMu+v/8F3D2PaE147SqH70rslJ/iEcG20Jfu5yzuD3FMKD7JV0JF5
sL5IA8au3bQEi6gbNP3QS9c0AVSDIaed0ptNRN4oHxmagLgEZIPmvd7UMVDm95/j
RD/d7SD9AgMBAAECggEAAc0lmYcigCxb/UbHb9tdbATbC2A1VusCo29VDf0im/NU
c8Vib/f+fQa968+xxlaKsz+BTlNk/+b1Q/e5/MoPggp7Cue4jswHWmtioJGbjAy7
Qo5dVsXYAy7zyPrinyImDqBcaFnLXvqtvmI7fgqGEbOkKulGimktn+9m/tEU9SQG
0HTpWSc7+e9jgUwEqBPRdVs9AREYdLLMe3r6cWIoWq9EuzMcNI4N5LHiIn9qdYNW
DijucCb1Pyp8nJhmg+CREMU7wA43LRfB1fGFu60SBq5jZ+AFEDdRm+btA1TDgiH+
sDKC4i96mRGDxdzliwrTPilGYN+n2cuSc8+qMCIHAQKBgQD0OmapdWiVPwap4eTv
hp7soYeho9CJGSDT+U68PQV4Fx7j0OBO/gbGJiAxwwxMwmPSaSy1c3/44EzFFEH4
R12b/jzVky0N19XdkgDip1Xig7vX2KFxBtgkbP3APGj7PpYT8KpIslsD7Ccch/cQ
uCuh1UjnE7SDSk6mDzuNHVJBAQKBgQDmeYXyuKoaX3BFZY0pQSh1YOAJUptO3lOL
vjlC6QDTwj5nitJV1sLFUcGLTr+6c3nzDmxc1BMqxZo1epNXqvgUkt7avTB9AmbP
iwSGOedykik/qB29EOwhZekrJfNp9xqfJabz/IYRH20oUhHIs955QkfFvJPSIA3m
IvenNP/j/QKBgEwDuVxZDLoXKc3KX2Ul82UXSY3H3OovBgaz/AueuosMNzMVGhu7
+QPHbhHO8Y8amdMtpRq83kHqHjrg+T97huk8klavPkCmwwv5m4jwKE0eT2L5LBZv
2OpNehVROCOq8S83ouiJisaHxAyfTQjJKdtu9QfnHDIY+K265AAh9i4BAoGBAKBw
fFSJRLDzOz60AN51I2sCszMKNF9k2ZfwJgB0H0VKdRKzStTCmfeugCMwALwU4xHW
Oo0sfONLh5wu5h8jP2tjCowPI5ACefuEdPPTn1DceqZ7q6gP/bEKNpT46Egd4oRj
O6OhaNrGm8Bz0Tl8LSUQhNIcAnNGKSbJtMjLVk8pAoGBAK2OCSq3HWbRR0BtTAKC
UCdIcNC7SZ6mqh1/OUeloPpB5crxrKidAAoJBnsnwrvG0x/m2hrLnaazDzDzO9+Q
ImZ5OJ9XkGzBOsZ+Ipc4/MfTZGELEHQx5RG8/WAaoyHBByS0w07I3Mw0xPdmUcOF
6h6oJLfTi6JWvpfqGIlrGOXi
-----END PRIVATE KEY-----
', 'ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDb4GegrEvMcHFNzlsiCUWEZ1YNjOB49ItHJdxQWexA+WXN8CBugTEAJkcRax8gX9q1rYo65ob+09tpArhebbm4jfdc+1VlFRcjwRXKoZwbT2pDmwctgINzK1Vu+ePMZX1UeR9e8GlDnA74KUNmAJvca4jnxoXo5nf36Ek2lx3JaBDkB4kZaVN6uE6HOnLIFayNZ8zNOdScOs60iFFUexDZisnQMu+v/8F3D2PaE147SqH70rslJ/iEcG20Jfu5yzuD3FMKD7JV0JF5sL5IA8au3bQEi6gbNP3QS9c0AVSDIaed0ptNRN4oHxmagLgEZIPmvd7UMVDm95/jRD/d7SD9 ann
', 0, NULL);
INSERT INTO "volumes" VALUES ('9948ac6799cd4d969131a77300571770', 'disk', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', '2026-11-26 05:46:50.193581', '2026-11-26 05:46:50.739463', 0, NULL, 'ACTIVE', NULL, '{"type":"volume","backend":"aws","name":"disk","auto_cleanup_duration":null,"tags":null,"size":10.0,"volume_id":null,"region":"us-east-1","availability_zone":null}', '{"backend":"aws","volume_id":"vol-c76dce8221a033453","size_gb":10,"availability_zone":"us-east-1a","price":0.8,"attachable":true,"detachable":true,"backend_data":"{\"volume_type\":\"gp3\",\"iops\":3000}"}', NULL, '69c615138a9c4ccdbf5d164bf5f69539', NULL, 0, 0, NULL, NULL, NULL);
INSERT INTO "volumes" VALUES ('f053826c95464b5a9130ca6d23b79adb', 'data', 'ed7df2d1921a4b038bb7e1e1ddbf8c4d', '2026-11-26 05:43:02.890575', '2026-11-26 05:43:02.989796', 0, NULL, 'FAILED', 'Backend not available', '{"type":"volume","backend":"aws","name":"data","auto_cleanup_duration":null,"tags":null,"size":10.0,"volume_id":null,"region":"us-east-1","availability_zone":null}', NULL, NULL, '69c615138a9c4ccdbf5d164bf5f69539', NULL, 0, 0, NULL, NULL, NULL);