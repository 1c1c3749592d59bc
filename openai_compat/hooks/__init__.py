"""Ready-made hooks: `Server(hooks=[AuditLog("audit.jsonl"), ContentLog(sample=0.01)])`."""

from .audit_log import AuditLog
from .content_log import ContentLog

__all__ = ("AuditLog", "ContentLog")
