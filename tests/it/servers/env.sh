#!/bin/sh
# What a CGI program is given (tests/it/servers): at /fields its variables, elsewhere its paths as `read NAME VALUE`.
printf 'Content-Type: text/plain\r\n\r\n'
if [ "$PATH_INFO" = /fields ]; then exec env; fi
printf 'read path_info %s\nread script %s\nread request_uri %s\n' "$PATH_INFO" "$SCRIPT_NAME$PATH_INFO" "$REQUEST_URI"
