"""Well-known names of the built-in cloud: what a client needs to log in to a fleet file that says nothing.

Made up and public, so that nobody takes them for a secret. Light on purpose: the command line reads them.
"""

from __future__ import annotations

from typing import Final

BASE_URL: Final = "http://simulator.invalid"
"""Where the cloud lives inside the process; `.invalid` never resolves (RFC 6761)."""

USER_NAME: Final = "fleet"
USER_PASSWORD: Final = "simulator"  # noqa: S105 - made up and documented
USER_ID: Final = "7e25b1da389f4697a79df3a0e5bd494e"
DOMAIN_NAME: Final = "simulator"
DOMAIN_ID: Final = "d0d0d0d0a1b24c3d8e9f001122334455"
PROJECT_NAME: Final = "sim-1"
PROJECT_ID: Final = "0123456789abcdef0123456789abcdef"
REGION: Final = "sim-1"
ACCESS_KEY: Final = "SIMULATORKEY00000001"
SECRET_KEY: Final = "simulatorSecretKey00000000000000000000001"  # noqa: S105 - made up and documented
APPLICATION_CREDENTIAL: Final = "a1b2c3d4e5f60718293a4b5c6d7e8f90"
APPLICATION_SECRET: Final = "simulator-application-secret"  # noqa: S105 - made up and documented

KEY_PAIR: Final = "demo-key"
IMAGE_ID: Final = "c71b64e7-4767-4406-afde-2c7c7ac2242c"
IMAGE_NAME: Final = "Standard_Debian_12"
PLAIN_IMAGE_ID: Final = "0b8f2d51-93ae-4c2e-9d6a-5a1f3c7e2b90"
PLAIN_IMAGE_NAME: Final = "Legacy_Appliance_7"
VPC_ID: Final = "0431c5e5-bc94-4a44-8263-15da2a642435"
SUBNET: Final = "10.20.0.0/16"
SECURITY_GROUP_ID: Final = "6505b5d1-7837-41eb-8a1c-869d4355baa3"
FLAVOR: Final = "s3.large.2"
ZONES: Final = ("sim-1a", "sim-1b")
