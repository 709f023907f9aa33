#!/bin/sh
/bin/trialboot-watchdog begin
