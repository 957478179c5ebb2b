"""Descriptions of things, field by field as the cloud writes them (ECS API reference, sections 5 to 7).

Strings where the cloud has strings: ``bootIndex``, ``version``, ``vcpus`` and ``ram`` are text.
"""

from __future__ import annotations

import base64
from typing import Any, Final

from fleet.cloud.simulator import defaults
from fleet.cloud.simulator.calendar import Calendar
from fleet.cloud.simulator.things import ImageRecord, Job, KeyPairRecord, Project, Server, Volume

_OPTIONAL: Final = (
    "description", "host_status", "progress", "auto_terminate_time", "sys_tags", "hypervisor", "cpu_options",
    "security_options", "enclave_options", "capacity_reservation_id", "capacity_reservation_specification",
    "spod_id", "network_interfaces", "OS-DCF:diskConfig", "accessIPv4", "accessIPv6", "config_drive",
    "OS-SRV-USG:terminated_at", "os:scheduler_hints",
)  # fmt: skip
_VCPUS: Final = {"medium": 1, "large": 2, "xlarge": 4, "2xlarge": 8, "4xlarge": 16, "8xlarge": 32}


def flavor_of(flavor: str) -> dict[str, Any]:
    """Describe a flavor by its name: ``s3.large.2`` has 2 processors and 2 GiB for each."""
    _, _, size = flavor.partition(".")
    word, _, ratio = size.partition(".")
    vcpus = _VCPUS.get(word, 2)
    ram = vcpus * (int(ratio) if ratio.isdigit() else 2) * 1024
    return {
        "id": flavor,
        "name": flavor,
        "vcpus": str(vcpus),
        "ram": str(ram),
        "disk": "0",
        "gpus": [],
        "asic_accelerators": [],
    }


def mac_of(number: int) -> str:
    """Return the MAC address of the *number*-th server."""
    return "fa:16:3e:{:02x}:{:02x}:{:02x}".format(*(number & 0xFFFFFF).to_bytes(3, "big"))


def _addresses(server: Server) -> dict[str, list[dict[str, Any]]]:
    nic = {"OS-EXT-IPS-MAC:mac_addr": mac_of(server.number), "OS-EXT-IPS:port_id": server.port}
    found = [
        {"version": "4", "addr": server.address, "primary": True, "OS-EXT-IPS:type": "fixed", **nic},
    ]
    if server.spec.floating:
        found.append({"version": "4", "addr": server.spec.floating, "OS-EXT-IPS:type": "floating", **nic})
    return {server.spec.vpc: found}


def _metadata(server: Server, image: ImageRecord | None) -> dict[str, str]:
    return {
        "metering.image_id": server.image,
        "metering.imagetype": "gold",
        "image_name": image.name if image else "",
        "metering.resourcespeccode": f"{server.spec.flavor}.linux",
        "metering.resourcetype": "1",
        "charging_mode": "0",
        "vpc_id": server.spec.vpc,
        "os_type": image.os_type if image else "Linux",
        "os_bit": "64",
        "__support_agent_list": "hss,ces",
        "cascaded.instance_extrainfo": "pcibridge:2",
        **server.spec.metadata,
    }


def server_body(
    server: Server, project: Project, image: ImageRecord | None, calendar: Calendar
) -> dict[str, Any]:
    """Describe a server in the form of the v1 calls."""
    status, vm_state, task, power = server.show.value
    body: dict[str, Any] = {
        "id": server.id,
        "name": server.name,
        "description": "",
        "status": status,
        "OS-EXT-STS:vm_state": vm_state,
        "OS-EXT-STS:task_state": task,
        "OS-EXT-STS:power_state": power,
        "progress": 0,
        "fault": server.fault,
        "locked": server.locked,
        "host_status": "UP",
        "created": calendar.seconds(server.created),
        "updated": calendar.seconds(server.updated),
        "OS-SRV-USG:launched_at": calendar.micros(server.launched),
        "OS-SRV-USG:terminated_at": None,
        "auto_terminate_time": "",
        "tenant_id": project.id,
        "user_id": defaults.USER_ID,
        "key_name": server.key_name or None,
        "image": {"id": server.image},
        "flavor": flavor_of(server.spec.flavor),
        "addresses": _addresses(server),
        "security_groups": [{"id": defaults.SECURITY_GROUP_ID, "name": "default"}],
        "os-extended-volumes:volumes_attached": [
            {
                "id": disk.id,
                "device": disk.device,
                "bootIndex": "0" if disk.system else "-1",
                "delete_on_termination": "false",
            }
            for disk in server.disks
        ],
        "OS-EXT-AZ:availability_zone": server.spec.zone,
        "metadata": _metadata(server, image),
        "tags": server.tags,
        "sys_tags": [{"key": "_sys_enterprise_project_id", "value": server.spec.enterprise_project}],
        "enterprise_project_id": server.spec.enterprise_project,
        "os:scheduler_hints": {"tenancy": ["shared"]},
        "config_drive": "",
        "accessIPv4": "",
        "accessIPv6": "",
        "OS-DCF:diskConfig": "MANUAL",
        "hostId": f"c714{server.number % 97:052x}",
        "OS-EXT-SRV-ATTR:host": f"az21.dc{server.number % 7}",
        "OS-EXT-SRV-ATTR:hypervisor_hostname": f"nova{server.number % 97:03d}@74",
        "OS-EXT-SRV-ATTR:instance_name": f"instance-{server.number + 0x150000:08x}",
        "OS-EXT-SRV-ATTR:hostname": server.name,
        "OS-EXT-SRV-ATTR:root_device_name": "/dev/vda",
        "OS-EXT-SRV-ATTR:reservation_id": f"r-{server.number:08d}",
        "OS-EXT-SRV-ATTR:launch_index": 0,
        "OS-EXT-SRV-ATTR:kernel_id": "",
        "OS-EXT-SRV-ATTR:ramdisk_id": "",
        "OS-EXT-SRV-ATTR:user_data": (
            base64.b64encode(server.user_data.encode()).decode() if server.user_data else None
        ),
        "hypervisor": None,
        "cpu_options": {"hw:cpu_threads": None},
        "security_options": {"tpm_enabled": None},
        "enclave_options": {"enabled": False},
        "capacity_reservation_id": None,
        "capacity_reservation_specification": {"id": None, "preference": None},
        "spod_id": None,
        "network_interfaces": [
            {
                "port_id": server.port,
                "primary": True,
                "ip_addresses": [server.address],
                "ipv6_addresses": [],
                "subnet_id": server.spec.vpc,
            }
        ],
    }
    if server.sparse:
        for name in _OPTIONAL:
            del body[name]
    return body


def missing_server_body(server_id: str) -> dict[str, Any]:
    """Describe an id that does not exist, as a list by ``server_id`` shows it."""
    fault = {"code": 404, "message": f"Instance {server_id} could not be found."}
    return {"id": server_id, "fault": fault, "name": None, "status": None, "tags": None, "metadata": None}


def job_body(job: Job, calendar: Calendar) -> dict[str, Any]:
    """Describe a job; ``end_time`` is empty and the error keys are missing while it runs."""
    body: dict[str, Any] = {
        "job_id": job.id,
        "job_type": job.type,
        "status": job.status,
        "begin_time": calendar.millis(job.begin),
        "end_time": "" if job.end is None else calendar.millis(job.end),
    }
    if job.end is not None:
        body["error_code"] = job.code
        body["fail_reason"] = job.reason
    if job.children:
        children = [job_body(child, calendar) for child in job.children]
        body["entities"] = {"sub_jobs_total": len(children), "sub_jobs": children}
    else:
        body["entities"] = {"server_id": job.server} if job.server else {}
    return body


def image_body(image: ImageRecord, project: Project) -> dict[str, Any]:
    """Describe an image, Glance's flat form."""
    body: dict[str, Any] = {
        "id": image.id,
        "name": image.name,
        "status": image.status,
        "visibility": "public",
        "owner": project.domain_id,
        "min_disk": 10,
        "min_ram": 512,
        "protected": False,
        "container_format": "bare",
        "disk_format": "qcow2",
        "size": 0,
        "tags": [],
        "self": f"/v2/images/{image.id}",
        "file": f"/v2/images/{image.id}/file",
        "schema": "/v2/schemas/image",
        "created_at": "2025-11-02T09:14:31Z",
        "updated_at": "2025-11-02T09:20:02Z",
        "virtual_env_type": image.kind,
        "hw_firmware_type": "bios",
        "__os_type": image.os_type,
        "__os_bit": "64",
        "__os_version": f"{image.name.replace('_', ' ')} 64bit",
        "__platform": "Debian" if "Debian" in image.name else "Other",
        "__imagetype": "gold",
        "__isregistered": "true",
        "__os_feature_list": '{"onekey_resetpasswd": "true"}',
    }
    if not image.cloud_init:
        body["__support_fc_inject"] = "true"
    return body


def key_pair_body(pair: KeyPairRecord, number: int) -> dict[str, Any]:
    """Describe a key pair to its owner."""
    return {
        "name": pair.name,
        "fingerprint": pair.fingerprint,
        "public_key": f"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABsimulated Generated-by-{pair.name}\n",
        "user_id": pair.user_id,
        "created_at": "2025-06-03T08:20:11.000000",
        "deleted": False,
        "deleted_at": None,
        "updated_at": None,
        "id": number + 1,
        "type": "ssh",
    }


def volume_body(disk: Volume, server: Server, calendar: Calendar) -> dict[str, Any]:
    """Describe a disk, the form of EVS."""
    return {
        "id": disk.id,
        "name": f"{server.name}-volume-{disk.device.removeprefix('/dev/')}",
        "status": "in-use",
        "bootable": "true" if disk.system else "false",
        "created_at": calendar.micros(disk.created),
        "size": disk.size_gb,
        "volume_type": "SSD",
        "availability_zone": server.spec.zone,
        "multiattach": False,
        "metadata": {},
        "volume_image_metadata": {"image_id": disk.image} if disk.system else {},
        "attachments": [
            {
                "server_id": server.id,
                "device": disk.device,
                "attached_at": calendar.micros(disk.created),
                "volume_id": disk.id,
            }
        ],
    }


def block_devices_body(server: Server) -> dict[str, Any]:
    """Describe a server's disks; here ``bootIndex`` is a number."""
    return {
        "volumeAttachments": [
            {
                "volumeId": disk.id,
                "id": disk.id,
                "serverId": server.id,
                "device": disk.device,
                "bootIndex": 0 if disk.system else -1,
                "size": disk.size_gb,
                "bus": "virtio",
                "pciAddress": f"0000:02:{place + 1:02x}.0",
            }
            for place, disk in enumerate(server.disks)
        ]
    }


def actions_body(server: Server, project: Project, calendar: Calendar) -> list[dict[str, Any]]:
    """Describe Nova's log of a server, newest first."""
    return [
        {
            "action": action["action"],
            "instance_uuid": server.id,
            "message": "Error" if action["failed"] else None,
            "project_id": project.id,
            "request_id": action["request_id"],
            "start_time": calendar.micros(action["start"]),
            "user_id": action["user"],
        }
        for action in reversed(server.actions)
    ]


def action_events(action: dict[str, Any], calendar: Calendar) -> list[dict[str, Any]]:
    """Describe the one event of an action; without an end it has neither a finish time nor a result."""
    end = action["end"]
    return [
        {
            "event": f"compute_{action['action']}_instance",
            "start_time": calendar.micros(action["start"]),
            "finish_time": None if end is None else calendar.micros(end),
            "result": None if end is None else ("Error" if action["failed"] else "Success"),
            "traceback": None,
        }
    ]
