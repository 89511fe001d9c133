"""Tests of archives in object storage."""
