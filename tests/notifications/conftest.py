from tests.mail import mail_sink, smtp_script

__all__ = ["mail_sink", "smtp_script"]
