"""The web interface: one file per tab, the texts apart; nothing else imports gradio."""
